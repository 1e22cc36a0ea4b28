-- +goose Up
set local lock_timeout = '10s';

-- Wakes the readers that sleep, once in a transaction and when it commits: a deferred constraint trigger on the log calls it. Arguments:
-- channel, lock key, forced. A commit that notifies holds a lock of the whole cluster until the disk has it, so commits that all notify
-- follow each other at the speed of the disk. Hence only two at a time notify: one that has lock key # 1, and one that has key # 2, which says
-- "crowd". The others leave it to that one and are silent: they hold key # 3 until they have ended, so that a reader that was told of
-- a crowd knows how long to look again. They look at the second lock once more when they have the third: whoever has it now notifies
-- later than that. Who cannot have the third, because a reader looks at it, notifies as well. Should the one that they rely on fail in the
-- middle of its commit, as with a serialization failure, the next commit or the next poll wakes the readers.
--
-- The lock of the sleeper comes first because with it nothing else is needed. NOTIFY would make PREPARE TRANSACTION fail, so where that
-- is in use readers poll, unless forced. It runs with the rights of its caller, and names are qualified, because setting search_path
-- would cost every captured row 3 microseconds.
-- +goose StatementBegin
create or replace function core.fn_observer_wake_at_commit() returns trigger
    language plpgsql
as $$
declare
    key    constant pg_catalog.int8 := tg_argv[1];
    first  constant pg_catalog.int8 := key operator(pg_catalog.#) 1;
    second constant pg_catalog.int8 := key operator(pg_catalog.#) 2;
    silent constant pg_catalog.int8 := key operator(pg_catalog.#) 3;
begin
    if pg_catalog.pg_try_advisory_xact_lock_shared(key) then
        return null;
    end if;
    if tg_argv[2] operator(pg_catalog.<>) 'true' and pg_catalog.current_setting('max_prepared_transactions') operator(pg_catalog.<>) '0' then
        return null;
    end if;
    if pg_catalog.pg_try_advisory_xact_lock(first) then
        perform pg_catalog.pg_notify(tg_argv[0], '');
        return null;
    end if;
    if not pg_catalog.pg_try_advisory_xact_lock(second) then
        if pg_catalog.pg_try_advisory_xact_lock_shared(silent) then
            if not pg_catalog.pg_try_advisory_xact_lock(second) then
                return null;
            end if;
        end if;
    end if;
    perform pg_catalog.pg_notify(tg_argv[0], 'crowd');
    return null;
end
$$;
-- +goose StatementEnd

-- Makes sure that the log has the wake-up trigger of a channel, in place of one that notified in each statement
-- (core.fn_observer_wake). It runs with its owner's rights, so that the worker's role needs none on the table. While it waits for a
-- lock, every writer to the log waits behind it: it gives up soon, and the caller tries again later.
--
-- The condition of the trigger is true for the first row of a transaction, and again after the savepoint of that row was rolled back: a
-- setting, which lasts as long as the deferred call, remembers that one is planned.
-- +goose StatementBegin
create or replace function core.fn_observer_ensure_wake(channel text, forced boolean) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '300ms'
as $$
declare
    wanted  text := 'observer_wake_' || channel;
    key     constant bigint := core.fn_observer_wake_key(channel);
    planned constant text := 'fraiseql.wake_' || to_hex(key);
    present bytea;
begin
    if channel = '' or octet_length(channel) > 63 then
        raise exception 'notify_channel must have 1 to 63 bytes' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(wanted) > 63 then
        wanted := 'observer_wake_' || md5(channel);
    end if;
    select tgargs into present from pg_trigger where tgrelid = 'core.tb_entity_change_log'::regclass and tgname = wanted and tginitdeferred;
    if present = convert_to(channel, 'UTF8') || '\x00' || convert_to(key::text, 'UTF8') || '\x00' || convert_to(forced::text, 'UTF8') || '\x00' then
        return;
    end if;
    perform pg_advisory_xact_lock(core.fn_observer_wake_key('ensure ' || channel));
    execute format('drop trigger if exists %I on core.tb_entity_change_log', wanted);
    execute format($sql$create constraint trigger %I after insert on core.tb_entity_change_log deferrable initially deferred for each row
        when (coalesce(current_setting(%L, true), '') = '' and set_config(%2$L, 'planned', true) is not null)
        execute function core.fn_observer_wake_at_commit(%3$L, %4$L, %5$L)$sql$, wanted, planned, channel, key, forced::text);
end
$$;
-- +goose StatementEnd

revoke all on function core.fn_observer_ensure_wake(text, boolean) from public;
