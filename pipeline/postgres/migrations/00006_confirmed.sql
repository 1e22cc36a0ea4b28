-- +goose Up
set local lock_timeout = '10s';

-- A bridge keeps a second row, <transport_name>:confirmed: up to where the consumers of the stream have settled everything.
-- stream_created and stream_sequence say which stream that is, and how far it has been filled: a stream that was lost or went
-- back is refilled from there. As for every row, the log keeps what this one has not passed.
alter table public.tb_observer_checkpoint
    add column if not exists stream_created  timestamptz,
    add column if not exists stream_sequence bigint;
