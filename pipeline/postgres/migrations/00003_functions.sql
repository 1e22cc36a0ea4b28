-- +goose Up
set local lock_timeout = '10s';

-- What of a row image is kept: the named columns, or all but the named ones.
-- +goose StatementBegin
create or replace function core.fn_observer_columns(image jsonb, mode text, columns text[]) returns jsonb
    language sql immutable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case mode
        when 'include' then (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(image) e where e.key = any (columns))
        when 'exclude' then image - columns
        else image
    end
$$;
-- +goose StatementEnd

-- Converts a row for capture with the rights of whoever writes it: to_jsonb runs casts to json that owners of types define, and
-- the owner of a table may give it such a column. It stands on tables whose owner could not act as the owner of our functions
-- anyway, right before core.fn_observer_capture_converted and with the same six arguments (see below), and leaves the images
-- in settings of the transaction. Names and operators are qualified, since they are looked up in the writer's search_path.
-- +goose StatementBegin
create or replace function core.fn_observer_convert() returns trigger
    language plpgsql
as $$
declare
    after  pg_catalog.text := '';
    before pg_catalog.text := '';
    keys   pg_catalog.text[];
    name   pg_catalog.text;
    value  pg_catalog.jsonb;
    list   pg_catalog.jsonb := '[]';
    error  pg_catalog.text;
begin
    if pg_catalog.current_setting('fraiseql.cdc_mediated', true) operator(pg_catalog.=) 'on' then
        return null;
    end if;
    begin
        if tg_op operator(pg_catalog.<>) 'DELETE' then
            after := pg_catalog.to_jsonb(new);
        end if;
        if tg_op operator(pg_catalog.<>) 'INSERT' then
            before := pg_catalog.to_jsonb(old);
        end if;
    exception when others then
        after := '';
        before := '';
        error := sqlerrm;
        begin -- the key may convert by itself
            keys := tg_argv[1];
            foreach name in array keys loop
                if tg_op operator(pg_catalog.=) 'DELETE' then
                    execute pg_catalog.format('select pg_catalog.to_jsonb(($1).%I)', name) into value using old;
                else
                    execute pg_catalog.format('select pg_catalog.to_jsonb(($1).%I)', name) into value using new;
                end if;
                list := list operator(pg_catalog.||) pg_catalog.jsonb_build_array(value);
            end loop;
        exception when others then
            list := null;
        end;
        value := pg_catalog.jsonb_build_object('capture_error', error, 'key', case pg_catalog.cardinality(keys)
            when 1 then list operator(pg_catalog.->>) 0 when 0 then null else list::pg_catalog.text end);
        perform pg_catalog.set_config('fraiseql.capture_error', value::pg_catalog.text, true);
    end;
    after := pg_catalog.set_config('fraiseql.capture_after', after, true);
    before := pg_catalog.set_config('fraiseql.capture_before', before, true);
    return null;
end
$$;
-- +goose StatementEnd

-- Capture: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW. Arguments: entity; or entity, key column; or all six: entity,
-- key columns (text[]), '' or 'include' or 'exclude', those columns (text[]), keep the before-image of an UPDATE (boolean),
-- tenant column or ''. One and two arguments are the fast path. An UPDATE that changes nothing is logged as well.
-- It converts with its owner's rights, so that nobody else may attach it to a table. Its copy below takes the images that
-- core.fn_observer_convert made, touches nothing of the row, and empties the settings, because they may hold columns that the
-- writer may not read.
--
-- Only the conversion stands in a block with an exception handler: nothing is written there, so that its subtransaction
-- never takes a transaction id. What cannot be converted becomes a marker row; the user's statement never fails for it.
-- +goose StatementBegin
create or replace function core.fn_entity_change_log_capture() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    after   jsonb;
    before  jsonb;
    key     text;
    keys    text[];
    uid     uuid;
    tenant  text;
    problem jsonb;
    converted constant boolean := false;
begin
    if current_setting('fraiseql.cdc_mediated', true) = 'on' then
        return null;
    end if;
    if converted then
        after := nullif(current_setting('fraiseql.capture_after', true), '');
        before := nullif(current_setting('fraiseql.capture_before', true), '');
        key := set_config('fraiseql.capture_after', '', true) || set_config('fraiseql.capture_before', '', true);
        if coalesce(after, before) is null then
            problem := coalesce(nullif(current_setting('fraiseql.capture_error', true), ''), '{"capture_error": "the row was not converted"}');
            key := problem ->> 'key';
            problem := problem - 'key';
            perform set_config('fraiseql.capture_error', '', true);
        end if;
    end if;
    begin
        if not converted then
            if tg_op <> 'DELETE' then
                after := to_jsonb(new);
            end if;
            if tg_op <> 'INSERT' then
                before := to_jsonb(old);
            end if;
        end if;
        if tg_nargs = 2 then
            key := coalesce(after, before) ->> tg_argv[1];
        elsif tg_nargs > 2 and problem is null then
            keys := tg_argv[1];
            if cardinality(keys) = 1 then
                key := coalesce(after, before) ->> keys[1];
            elsif cardinality(keys) > 1 then
                select jsonb_agg(coalesce(after, before) -> k.name order by k.n)::text into key from unnest(keys) with ordinality k(name, n);
            end if;
            if tg_argv[5] <> '' then
                tenant := coalesce(after, before) ->> tg_argv[5];
                if tenant !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
                    tenant := null;
                end if;
            end if;
            if tg_op = 'UPDATE' and not tg_argv[4]::boolean then
                before := null;
            end if;
            if tg_argv[2] <> '' then
                after := core.fn_observer_columns(after, tg_argv[2], tg_argv[3]::text[]);
                before := core.fn_observer_columns(before, tg_argv[2], tg_argv[3]::text[]);
            end if;
        end if;
        if length(key) = 36 and key ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
            uid := key;
        end if;
    exception when others then
        problem := jsonb_build_object('capture_error', sqlerrm);
        after := null;
        before := null;
        tenant := null;
        key := null;
        begin
            if converted then
                raise exception 'the row is not to be touched';
            end if;
            keys := case tg_nargs when 1 then '{}' when 2 then array[tg_argv[1]] else tg_argv[1]::text[] end;
            if tg_op = 'DELETE' then
                key := core.fn_observer_key(old, keys);
            else
                key := core.fn_observer_key(new, keys);
            end if;
        exception when others then
            key := null;
        end;
    end;
    insert into core.tb_entity_change_log
        (object_type, modification_type, object_id, object_key, object_data, object_data_before, tenant_id, user_id, extra_metadata)
    values
        (tg_argv[0], tg_op, uid, key, after, before, tenant::uuid, nullif(current_setting('fraiseql.user_id', true), ''), problem);
    return null;
end
$$;
-- +goose StatementEnd

-- The same for tables of other owners, behind core.fn_observer_convert.
-- +goose StatementBegin
do $$
begin
    execute replace(replace(pg_get_functiondef('core.fn_entity_change_log_capture()'::regprocedure),
        'core.fn_entity_change_log_capture()', 'core.fn_observer_capture_converted()'),
        'converted constant boolean := false', 'converted constant boolean := true');
end
$$;
-- +goose StatementEnd

-- Custom events, inside the caller's transaction.
-- +goose StatementBegin
create or replace function core.emit_event(entity text, data jsonb, entity_id text default null) returns uuid
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    event_id uuid;
begin
    if coalesce(entity, '') = '' then
        raise exception 'emit_event: entity is empty' using errcode = 'invalid_parameter_value';
    end if;
    insert into core.tb_entity_change_log (object_type, modification_type, object_id, object_key, object_data, user_id)
    values (entity, 'CUSTOM',
            case when entity_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then entity_id::uuid end,
            entity_id, coalesce(data, 'null'), nullif(current_setting('fraiseql.user_id', true), ''))
    returning id into event_id;
    return event_id;
end
$$;
-- +goose StatementEnd

-- The advisory lock that a sleeping reader of a channel holds or waits for.
-- +goose StatementBegin
create or replace function core.fn_observer_wake_key(channel text) returns bigint
    language sql immutable strict parallel safe
as $$
    select pg_catalog.hashtextextended('fraiseql observer wake ' || channel, 0)
$$;
-- +goose StatementEnd

-- Wakes the readers that sleep: AFTER INSERT FOR EACH STATEMENT on the log. Arguments: channel, lock key, forced. The lock
-- comes first because with it nothing else is needed; NOTIFY would make PREPARE TRANSACTION fail, so where that is in use
-- readers poll, unless forced. It runs with the rights of its caller and names are qualified, because setting search_path
-- would cost every captured row 3 microseconds.
-- +goose StatementBegin
create or replace function core.fn_observer_wake() returns trigger
    language plpgsql
as $$
begin
    if not pg_catalog.pg_try_advisory_xact_lock_shared(tg_argv[1]::pg_catalog.int8) then
        if tg_argv[2] operator(pg_catalog.=) 'true' or pg_catalog.current_setting('max_prepared_transactions') operator(pg_catalog.=) '0' then
            perform pg_catalog.pg_notify(tg_argv[0], '');
        end if;
    end if;
    return null;
end
$$;
-- +goose StatementEnd

-- Makes sure that the log has the wake-up trigger of a channel. It runs with its owner's rights, so that the worker's
-- role needs none on the table. While it waits for a lock, every writer to the log waits behind it: it gives up soon, and the
-- caller tries again later.
-- +goose StatementBegin
create or replace function core.fn_observer_ensure_wake(channel text, forced boolean) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '300ms'
as $$
declare
    wanted  text := 'observer_wake_' || channel;
    args    text := format('%L, %L, %L', channel, core.fn_observer_wake_key(channel), forced::text);
    present bytea;
begin
    if channel = '' or octet_length(channel) > 63 then
        raise exception 'notify_channel must have 1 to 63 bytes' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(wanted) > 63 then
        wanted := 'observer_wake_' || md5(channel);
    end if;
    select tgargs into present from pg_trigger where tgrelid = 'core.tb_entity_change_log'::regclass and tgname = wanted;
    if present = convert_to(channel, 'UTF8') || '\x00' || convert_to(core.fn_observer_wake_key(channel)::text, 'UTF8') || '\x00' || convert_to(forced::text, 'UTF8') || '\x00' then
        return;
    end if;
    perform pg_advisory_xact_lock(core.fn_observer_wake_key('ensure ' || channel));
    if exists (select from pg_trigger where tgrelid = 'core.tb_entity_change_log'::regclass and tgname = wanted) then
        execute format('drop trigger %I on core.tb_entity_change_log', wanted);
    end if;
    execute format('create trigger %I after insert on core.tb_entity_change_log for each statement execute function core.fn_observer_wake(%s)', wanted, args);
end
$$;
-- +goose StatementEnd

-- The key as text when a row as a whole does not convert to JSON.
-- +goose StatementBegin
create or replace function core.fn_observer_key(image anyelement, columns text[]) returns text
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    name  text;
    value jsonb;
    list  jsonb := '[]';
begin
    foreach name in array columns loop
        execute format('select to_jsonb(($1).%I)', name) into value using image;
        list := list || jsonb_build_array(value);
    end loop;
    return case cardinality(columns) when 0 then null when 1 then list ->> 0 else list::text end;
end
$$;
-- +goose StatementEnd

-- Whoever may execute the second and the third may capture tables of its own, as any entity: migrate --grant-app gives that
-- right. The first would run what the owner of a table likes with our rights.
revoke all on function core.fn_entity_change_log_capture(), core.fn_observer_capture_converted(), core.fn_observer_convert(), core.fn_observer_ensure_wake(text, boolean), core.emit_event(text, jsonb, text) from public;
