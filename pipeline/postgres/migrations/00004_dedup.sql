-- +goose Up
set local lock_timeout = '10s';

-- Deliveries that run (done false: until the lease expires) or are done (until the window of deduplication ends). There is one row
-- for all generations of a delivery.
create table if not exists core.tb_observer_dedup (
    listener   text        not null,
    event_id   text        not null,
    observer   text        not null,
    action     text        not null,
    generation integer     not null,
    owner      text        not null,
    done       boolean     not null,
    expires_at timestamptz not null,
    primary key (listener, event_id, observer, action)
);
create index if not exists idx_observer_dedup_expires on core.tb_observer_dedup (expires_at);
