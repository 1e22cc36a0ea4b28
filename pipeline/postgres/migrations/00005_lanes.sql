-- +goose Up
set local lock_timeout = '10s';

-- lane names the deliveries that a parked one keeps in order with: those that share listener, observer, action and lane
-- leave one after the other. null lets others overtake it. follows says that an earlier one of the lane is there: such a row
-- is not due, whatever not_before says, and costs nothing to pass by.
alter table core.tb_observer_retry
    add column if not exists lane    text,
    add column if not exists follows boolean not null default false;
create index if not exists idx_observer_retry_lane on core.tb_observer_retry (listener, observer, action, lane, pk_observer_retry) where lane is not null;
create index if not exists idx_observer_retry_ready on core.tb_observer_retry (listener, not_before) where not follows;
drop index if exists core.idx_observer_retry_due;
