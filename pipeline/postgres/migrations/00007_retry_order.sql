-- +goose Up
set local lock_timeout = '10s';

-- What is due is claimed in the order of this index, so that a claim reads what it takes, however much is parked.
create index if not exists idx_observer_retry_next on core.tb_observer_retry (listener, not_before, pk_observer_retry) where not follows;
drop index if exists core.idx_observer_retry_ready;
