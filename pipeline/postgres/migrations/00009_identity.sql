-- +goose Up
set local lock_timeout = '10s';

-- With system_identifier these say in which database a position was stored, and so whether this one is a copy of that: a
-- copy within a cluster has another oid, a promoted standby a higher timeline. A row of before has neither: it
-- gets the oid now, and the timeline at the next start.
alter table public.tb_observer_checkpoint
    add column if not exists database_oid oid,
    add column if not exists timeline     integer;
update public.tb_observer_checkpoint c set database_oid = d.oid
  from pg_control_system() s, pg_database d
 where c.database_oid is null and c.system_identifier = s.system_identifier::text and d.datname = current_database();
