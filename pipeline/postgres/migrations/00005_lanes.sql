-- +goose Up
set local lock_timeout = '10s';

-- lane names the deliveries that a parked one keeps in order with: of those that share listener, observer, action and lane
-- only the first is due. null lets others overtake it.
alter table core.tb_observer_retry add column if not exists lane text;
create index if not exists idx_observer_retry_lane on core.tb_observer_retry (listener, observer, action, lane, pk_observer_retry) where lane is not null;
