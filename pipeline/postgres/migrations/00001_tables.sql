-- +goose Up
set local lock_timeout = '10s';

-- The change log. Applications and other producers insert here as well: object_type, modification_type and object_data
-- alone are a complete event. No check constraint stands on modification_type: it would be compiled again for each
-- captured row, a fifth of what the insert costs; the reader makes a dead letter of what it does not know.
-- The comment marks the table as ours: only then observer migrate --down drops it.
-- +goose StatementBegin
do $$
begin
    if to_regclass('core.tb_entity_change_log') is not null then
        return;
    end if;
    create table core.tb_entity_change_log (
        pk_entity_change_log bigint generated always as identity (cache 1) primary key,
        id                   uuid        not null default gen_random_uuid(),
        object_type          text        not null,
        modification_type    text        not null,
        object_id            uuid,
        object_key           text,
        object_data          jsonb,
        object_data_before   jsonb,
        tenant_id            uuid,
        user_id              text,
        actor_type           text,
        schema_version       integer,
        trace_context        jsonb,
        extra_metadata       jsonb,
        seq                  bigint,
        created_at           timestamptz not null default clock_timestamp(),
        tx_id                xid8        not null default pg_current_xact_id()
    );
    create index idx_entity_change_log_tx on core.tb_entity_change_log (tx_id, pk_entity_change_log);
    comment on table core.tb_entity_change_log is 'created by observer migrate';
end
$$;
-- +goose StatementEnd

-- A log that an application or the original tool made gets what it lacks. Its rows count as long committed: tx_id 3 is
-- the first normal transaction id.
-- +goose StatementBegin
do $$
declare
    log      constant regclass := 'core.tb_entity_change_log';
    name     text;
    missing  text;
begin
    if obj_description(log, 'pg_class') is not distinct from 'created by observer migrate' then
        return;
    end if;
    if not exists (select from pg_attribute where attrelid = log and attname = 'pk_entity_change_log' and not attisdropped) then
        raise exception 'core.tb_entity_change_log exists and is no change log: it has no column pk_entity_change_log'
            using hint = 'rename that table, then run: observer migrate';
    end if;
    alter table core.tb_entity_change_log
        add column if not exists id                 uuid        not null default gen_random_uuid(),
        add column if not exists object_type        text        not null default '',
        add column if not exists modification_type  text        not null default 'CUSTOM',
        add column if not exists object_id          uuid,
        add column if not exists object_key         text,
        add column if not exists object_data        jsonb,
        add column if not exists object_data_before jsonb,
        add column if not exists tenant_id          uuid,
        add column if not exists user_id            text,
        add column if not exists actor_type         text,
        add column if not exists schema_version     integer,
        add column if not exists trace_context      jsonb,
        add column if not exists extra_metadata     jsonb,
        add column if not exists seq                bigint,
        add column if not exists created_at         timestamptz not null default now(),
        add column if not exists tx_id              xid8        not null default '3';
    alter table core.tb_entity_change_log
        alter column tx_id set default pg_current_xact_id(),
        alter column id set default gen_random_uuid(),
        alter column created_at set default clock_timestamp(),
        alter column object_id drop not null,
        alter column object_data drop not null;
    for name in
        select conname from pg_constraint
         where conrelid = log and contype = 'c' and pg_get_constraintdef(oid) like '%modification_type%' and pg_get_constraintdef(oid) not like '%CUSTOM%'
    loop
        execute format('alter table core.tb_entity_change_log drop constraint %I', name);
    end loop;
    select string_agg(attname, ', ') into missing from pg_attribute
     where attrelid = log and attnum > 0 and not attisdropped and attnotnull and not atthasdef and attidentity = ''
       and attname not in ('object_type', 'modification_type');
    if missing is not null then
        raise exception 'core.tb_entity_change_log has columns that need a value which capture cannot know: %', missing
            using hint = 'give them a default or drop their not null constraint, then run: observer migrate';
    end if;
end
$$;
-- +goose StatementEnd

-- Reading positions, one row per listener_name or transport_name. Deleting a row re-delivers the whole log.
-- The reader has read everything that snapshot_from sees, and of the window snapshot_from -> snapshot_to everything up to
-- read_up_to (snapshot_to null: no window is under way). pending are rows read but not settled; starts counts, per
-- pending row, the starts without an outcome; done lists, per pending row, the actions that have settled; alone is the one pending row that runs by itself because it is suspect.
-- epoch grows with every change that an operator makes: a running reader that knows an older one loads the row again.
create table if not exists public.tb_observer_checkpoint (
    transport_name    text primary key,
    snapshot_from     pg_snapshot not null,
    snapshot_to       pg_snapshot,
    read_up_to        bigint      not null default 0,
    pending           bigint[]    not null default '{}',
    starts            integer[]   not null default '{}',
    done              jsonb       not null default '{}',
    alone             bigint,
    epoch             bigint      not null default 0,
    system_identifier text        not null,
    updated_at        timestamptz not null default clock_timestamp()
);

-- The original tool's checkpoint was the last row id: its rows go on from there.
-- +goose StatementBegin
do $$
begin
    if exists (select from pg_attribute where attrelid = 'public.tb_observer_checkpoint'::regclass and attname = 'snapshot_from' and not attisdropped) then
        return;
    end if;
    alter table public.tb_observer_checkpoint
        add column snapshot_from     pg_snapshot not null default '3:3:',
        add column snapshot_to       pg_snapshot,
        add column read_up_to        bigint      not null default 0,
        add column pending           bigint[]    not null default '{}',
        add column starts            integer[]   not null default '{}',
        add column done              jsonb       not null default '{}',
        add column alone             bigint,
        add column epoch             bigint      not null default 0,
        add column system_identifier text        not null default '',
        add column if not exists updated_at timestamptz not null default clock_timestamp();
    if exists (select from pg_attribute where attrelid = 'public.tb_observer_checkpoint'::regclass and attname = 'last_pk' and not attisdropped) then
        alter table public.tb_observer_checkpoint alter column last_pk drop not null;
        update public.tb_observer_checkpoint set read_up_to = coalesce(last_pk, 0), snapshot_to = pg_current_snapshot();
    end if;
    update public.tb_observer_checkpoint set system_identifier = (select system_identifier::text from pg_control_system());
    alter table public.tb_observer_checkpoint alter column snapshot_from drop default, alter column system_identifier drop default;
end
$$;
-- +goose StatementEnd

-- One row per reader that ever started: who leads, under which generation, until when. A clean end sets owner to null.
create table if not exists core.tb_observer_lease (
    name       text primary key,
    owner      text,
    generation bigint      not null default 0,
    expires_at timestamptz not null default clock_timestamp()
);

-- Parked deliveries. claimed_by is the lease generation that works on the row; another generation may claim it again.
-- claims counts the claims and is never reset, so that a late acknowledgement cannot hit a later claim.
create table if not exists core.tb_observer_retry (
    pk_observer_retry bigint generated always as identity primary key,
    listener          text        not null,
    event_id          text        not null,
    observer          text        not null,
    action            text        not null,
    generation        integer     not null default 0,
    entity            text        not null,
    event             jsonb       not null,
    attempts          jsonb       not null default '[]',
    not_before        timestamptz not null,
    claimed_by        bigint,
    claims            bigint      not null default 0,
    starts            integer     not null default 0,
    created_at        timestamptz not null default clock_timestamp(),
    unique (listener, event_id, observer, action)
);
create index if not exists idx_observer_retry_due on core.tb_observer_retry (listener, not_before);

-- Dead letters. An empty observer stands for the whole event. retrying: a replay is parked; the row goes when it succeeds.
create table if not exists core.tb_observer_dead_letter (
    pk_observer_dead_letter bigint generated always as identity primary key,
    listener        text        not null,
    event_id        text        not null,
    observer        text        not null,
    action          text        not null,
    generation      integer     not null default 0,
    entity          text        not null,
    event           jsonb,
    attempts        jsonb       not null default '[]',
    error           text        not null,
    error_class     text        not null,
    first_failed_at timestamptz not null,
    last_failed_at  timestamptz not null,
    retrying        boolean     not null default false,
    unique (listener, event_id, observer, action)
);
