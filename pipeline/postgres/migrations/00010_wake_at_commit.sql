-- +goose Up
set local lock_timeout = '10s';

-- Wakes the readers that sleep. A deferred constraint trigger of the log calls it for each row when the transaction commits. (A trigger
-- condition that only holds for the first row costs more than the calls that it saves.) Arguments: channel, lock key, forced.
--
-- A commit that notifies holds a lock of the whole cluster until it is on disk, so commits that notify follow each other at the speed of
-- the disk. Hence only two transactions at a time notify: the holder of lock key # 1, and the holder of lock key # 2, which sends "crowd".
-- The others are silent: they hold lock key # 3 until they have ended. A reader that was told of a crowd reads again until it finds, in
-- one look, that nobody holds the second or the third lock: a transaction tries the second lock once more when it has the third, so
-- either that look finds it, or whoever has the second lock notifies after that look. If the holder of the second lock fails in the
-- middle of its commit (a serialization failure, a deferred constraint), or takes long to commit, the next commit or the next poll wakes the readers.
--
-- The lock of the sleeper comes first because with it nothing else is needed. NOTIFY would make PREPARE TRANSACTION fail, so where that
-- is in use readers poll, unless forced. The function runs with the rights of its owner, since its caller may have none on what it calls,
-- and names are qualified, because setting search_path would cost every captured row 3 microseconds.
-- +goose StatementBegin
create or replace function core.fn_observer_wake_at_commit() returns trigger
    language plpgsql security definer
as $$
declare
    key constant pg_catalog.int8 := tg_argv[1];
begin
    if pg_catalog.pg_try_advisory_xact_lock_shared(key) then
        return null;
    end if;
    if tg_argv[2] operator(pg_catalog.<>) 'true' and pg_catalog.current_setting('max_prepared_transactions') operator(pg_catalog.<>) '0' then
        return null;
    end if;
    if pg_catalog.pg_try_advisory_xact_lock(key operator(pg_catalog.#) 1) then
        perform pg_catalog.pg_notify(tg_argv[0], '');
        return null;
    end if;
    if not pg_catalog.pg_try_advisory_xact_lock(key operator(pg_catalog.#) 2) then
        if pg_catalog.pg_try_advisory_xact_lock_shared(key operator(pg_catalog.#) 3) then
            if not pg_catalog.pg_try_advisory_xact_lock(key operator(pg_catalog.#) 2) then
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
-- +goose StatementBegin
create or replace function core.fn_observer_ensure_wake(channel text, forced boolean) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '300ms'
as $$
declare
    wanted  text := 'observer_wake_' || channel;
    key     constant bigint := core.fn_observer_wake_key(channel);
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
    execute format('create constraint trigger %I after insert on core.tb_entity_change_log deferrable initially deferred for each row '
        'execute function core.fn_observer_wake_at_commit(%L, %L, %L)', wanted, channel, key, forced::text);
end
$$;
-- +goose StatementEnd

revoke all on function core.fn_observer_ensure_wake(text, boolean) from public;

-- The triggers that are there notify in each statement.
-- +goose StatementBegin
do $$
declare
    old constant oid := to_regprocedure('core.fn_observer_wake()');
    args text[];
begin
    if exists (select from pg_trigger where tgfoid = old) then
        lock table core.tb_entity_change_log in access exclusive mode;
    end if;
    for args in select core.fn_observer_arguments(tgargs) from pg_trigger where tgfoid = old and tgrelid = 'core.tb_entity_change_log'::regclass loop
        perform core.fn_observer_ensure_wake(args[1], args[3]::boolean);
    end loop;
    if not exists (select from pg_trigger where tgfoid = old) then
        drop function if exists core.fn_observer_wake();
    end if;
end
$$;
-- +goose StatementEnd
