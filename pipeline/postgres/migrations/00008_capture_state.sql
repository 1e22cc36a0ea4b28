-- +goose Up
set local lock_timeout = '10s';

-- What is captured, written with the triggers, so that later changes of a table can be found. relation is the table, which a rename
-- leaves, and made_in the database in which that is so: in a restored dump name alone says which table it was. default_key: nobody chose
-- a key, so that it is the primary key. columns are those that arguments name, and numbers their pg_attribute.attnum (0: unknown), which
-- a renamed column keeps.
create table if not exists core.tb_observer_capture (
    relation    oid        not null,
    made_in     text       not null,
    name        text       not null,
    owner       text       not null,
    arguments   text[]     not null,
    default_key boolean    not null,
    columns     text[]     not null,
    numbers     smallint[] not null,
    primary key (relation, made_in)
);
-- The triggers in the catalogue, which everybody can read, say the same.
grant select on core.tb_observer_capture to public;

-- The arguments of a trigger as pg_trigger.tgargs has them: each ends with a zero byte.
-- +goose StatementBegin
create or replace function core.fn_observer_arguments(tgargs bytea) returns text[]
    language sql stable strict
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(convert_from(decode(a.hex, 'hex'), getdatabaseencoding()) order by a.n), '{}')
      from unnest(string_to_array(regexp_replace(encode(substring(tgargs for greatest(length(tgargs) - 1, 0)), 'hex'), '(..)', '\1 ', 'g'), '00 ')) with ordinality a(hex, n)
$$;
-- +goose StatementEnd

-- The connected database: no restored dump or copy has the same.
-- +goose StatementBegin
create or replace function core.fn_observer_made_in() returns text
    language sql stable
    set search_path = pg_catalog, pg_temp
as $$
    select s.system_identifier || '/' || d.oid from pg_control_system() s, pg_database d where d.datname = current_database()
$$;
-- +goose StatementEnd

-- The first of these columns of a captured table that is not the one that was meant: the row does not have it, or the column
-- that had the name has another one now. One of filled (and each, without a row) must be the very column: where it was dropped
-- and made again, and is null, nobody said that it is the same. Only functions with a search_path of their own call it, for
-- each row: so it asks the cache of the catalogue, and not the catalogue.
-- +goose StatementBegin
create or replace function core.fn_observer_lost(captured oid, image jsonb, names text[], filled text[]) returns text
    language plpgsql stable
as $$
declare
    known core.tb_observer_capture;
    named text;
begin
    if image is not null and not image ?& names then
        foreach named in array names loop
            if not image ? named then
                return named;
            end if;
        end loop;
    end if;
    select * into known from core.tb_observer_capture c where c.relation = captured;
    if not found and pg_partition_root(captured) is not null then
        select * into known from core.tb_observer_capture c where c.relation in (select p.relid from pg_partition_ancestors(captured) p);
    end if;
    for i in 1 .. coalesce(cardinality(known.columns), 0) loop
        if known.columns[i] = any (names) and known.numbers[i] <> 0 then
            named := ((pg_identify_object_as_address('pg_class'::regclass, known.relation, known.numbers[i])).object_names)[3];
            if named is distinct from known.columns[i]
               and (named not like '........pg.dropped.%' or known.columns[i] = any (filled) and image ->> known.columns[i] is null)
               and known.made_in = core.fn_observer_made_in()
            then
                return known.columns[i];
            end if;
        end if;
    end loop;
    return null;
end
$$;
-- +goose StatementEnd

-- Capture as before, but a column that it needs and that is not there, or is another one, makes a marker row: names in
-- trigger arguments do not follow a rename. An included column that is not there is left out, which tells nothing to anybody.
-- The way of one and two arguments looks at nothing more, unless the key is null.
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
    names   text[];
    lost    text;
    uid     uuid;
    tenant  text;
    problem jsonb;
    converted constant boolean := false;
begin
    if current_setting('fraiseql.cdc_mediated', true) = 'on' then
        return null;
    end if;
    if converted then
        if current_setting('fraiseql.capture_row', true) = tg_relid || tg_op then
            after := nullif(current_setting('fraiseql.capture_after', true), '');
            before := nullif(current_setting('fraiseql.capture_before', true), '');
        end if;
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
            if key is null then
                lost := core.fn_observer_lost(tg_relid, coalesce(after, before), array[tg_argv[1]], array[tg_argv[1]]);
            end if;
        elsif problem is not null then
            keys := tg_argv[1];
            if core.fn_observer_lost(tg_relid, null, keys, keys) is not null then
                key := null;
            end if;
        elsif tg_nargs > 2 then
            keys := tg_argv[1];
            names := keys || case tg_argv[5] when '' then '{}' else array[tg_argv[5]] end;
            lost := core.fn_observer_lost(tg_relid, coalesce(after, before),
                names || case tg_argv[2] when 'exclude' then tg_argv[3]::text[] else '{}' end, names);
            if lost is null and tg_argv[2] = 'include' then
                lost := core.fn_observer_lost(tg_relid, null, array(select u.name from unnest(tg_argv[3]::text[]) u(name)
                    where coalesce(after, before) ? u.name), array(select u.name from unnest(tg_argv[3]::text[]) u(name)));
            end if;
            if cardinality(keys) = 1 then
                key := coalesce(after, before) ->> keys[1];
            elsif cardinality(keys) > 1 then
                select jsonb_agg(coalesce(after, before) -> k.name order by k.n)::text into key from unnest(keys) with ordinality k(name, n);
            end if;
            if tg_argv[5] <> '' then
                tenant := coalesce(after, before) ->> tg_argv[5];
                if tenant !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
                    tenant := null;
                    if not exists (select from pg_attribute a join pg_type y on y.oid = a.atttypid
                                    where a.attrelid = tg_relid and a.attname = tg_argv[5] and (y.typcategory = 'S' or 'uuid'::regtype in (y.oid, y.typbasetype))) then
                        lost := coalesce(lost, tg_argv[5]);
                    end if;
                end if;
            end if;
            if tg_op = 'UPDATE' and not tg_argv[4]::boolean then
                before := null;
            end if;
            if tg_argv[2] = 'exclude' then
                after := after - tg_argv[3]::text[];
                before := before - tg_argv[3]::text[];
            elsif tg_argv[2] <> '' then
                after := core.fn_observer_columns(after, tg_argv[2], tg_argv[3]::text[]);
                before := core.fn_observer_columns(before, tg_argv[2], tg_argv[3]::text[]);
            end if;
        end if;
        if lost is not null then
            raise exception using message = format('column %I, which capture needs, was renamed, dropped or given another type; see: observer capture list', lost);
        end if;
        if length(key) = 36 and key ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
            uid := key;
        end if;
    exception when others then
        problem := jsonb_build_object('capture_error', sqlerrm);
        after := null;
        before := null;
        tenant := null;
        begin
            keys := case tg_nargs when 1 then '{}' when 2 then array[tg_argv[1]] else tg_argv[1]::text[] end;
            if core.fn_observer_lost(tg_relid, null, keys, keys) is not null then
                key := null; -- another column has the name
            elsif converted then
                null; -- the row is not to be touched
            elsif tg_op = 'DELETE' then
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

-- A converted row belongs to the table and the operation that it was made for: where a trigger was disabled by hand, another table's
-- capture must not take it.
-- +goose StatementBegin
do $$
declare
    definition constant text := pg_get_functiondef('core.fn_observer_convert()'::regprocedure);
    settings   constant text := 'after := pg_catalog.set_config(''fraiseql.capture_after'', after, true);';
begin
    if position('fraiseql.capture_row' in definition) = 0 then
        execute replace(definition, settings, 'name := pg_catalog.set_config(''fraiseql.capture_row'', tg_relid operator(pg_catalog.||) tg_op, true);' || E'\n    ' || settings);
    end if;
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

-- Makes core.tb_observer_capture say what the capture trigger of a table says, or nothing without one. by_default null: the
-- key is taken for the default where it is the primary key. An entry whose table gave its name up to this one is no news any more.
-- +goose StatementBegin
create or replace function core.fn_observer_record_capture(captured oid, by_default boolean) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    here      constant text := core.fn_observer_made_in();
    called    text;
    ruled     text;
    args      text[];
    keys      text[];
    named     text[];
    primaries text[];
begin
    select format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner) into called, ruled
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = captured;
    delete from core.tb_observer_capture e where e.relation = captured and e.made_in = here
        or e.name = called and (e.made_in <> here or not exists (select from pg_class c where c.oid = e.relation));
    update core.tb_observer_capture e set name = format('%I.%I', n.nspname, c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where e.name = called and e.made_in = here and c.oid = e.relation;
    select core.fn_observer_arguments(g.tgargs) into args from pg_trigger g join pg_proc p on p.oid = g.tgfoid
     where g.tgrelid = captured and g.tgname = '00_observer_capture' and g.tgparentid = 0
       and p.pronamespace = 'core'::regnamespace and p.proname in ('fn_entity_change_log_capture', 'fn_observer_capture_converted');
    if args is null then
        return;
    end if;
    keys := case when cardinality(args) < 6 then args[2:2] else args[2]::text[] end;
    named := keys || case when cardinality(args) < 6 then '{}' else args[4]::text[] || array_remove(args[6:6], '') end;
    primaries := array(select a.attname::text from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality k(attnum, n)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
       where i.indrelid = captured and i.indisprimary and k.n <= i.indnkeyatts order by k.n);
    insert into core.tb_observer_capture (relation, made_in, name, owner, arguments, default_key, columns, numbers)
    values (captured, here, called, ruled, args, coalesce(by_default, keys = primaries), named,
        array(select coalesce((select a.attnum from pg_attribute a where a.attrelid = captured and a.attname = u.name and a.attnum > 0 and not a.attisdropped), 0)
                from unnest(named) with ordinality u(name, n) order by u.n));
end
$$;
-- +goose StatementEnd

-- For observer capture add and remove: records how a table is captured now. It takes the right to make triggers on it.
-- +goose StatementBegin
create or replace function core.fn_observer_note_capture(captured oid, by_default boolean) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
    if has_table_privilege(caller, captured, 'trigger') is not true then
        raise exception 'permission denied to record the capture of %', captured::regclass using errcode = 'insufficient_privilege';
    end if;
    perform core.fn_observer_record_capture(captured, coalesce(by_default, false));
end
$$;
-- +goose StatementEnd

-- For observer capture remove: forgets tables that were captured under this name and are so no more. It takes the right to make
-- triggers on the table, or to act as its last owner when the table is gone; the owner of observer's objects may always. Of a table that is
-- captured under another name, that name counts from now on. It returns how many entries it found.
-- +goose StatementBegin
create or replace function core.fn_observer_forget_capture(called text) returns integer
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
    known  record;
    found  integer := 0;
begin
    for known in
        select e.relation, e.made_in, c.oid as there, to_regrole(quote_ident(e.owner)) as owner,
               exists (select from pg_trigger g where g.tgrelid = c.oid and g.tgname = '00_observer_capture') as captured
          from core.tb_observer_capture e
          left join pg_class c on c.oid = case when e.made_in = core.fn_observer_made_in() then e.relation else to_regclass(e.name)::oid end
         where e.name = called
    loop
        found := found + 1;
        if pg_has_role(caller, current_user, 'member') is not true
           and (case when known.there is not null then has_table_privilege(caller, known.there, 'trigger') else pg_has_role(caller, known.owner::oid, 'member') end) is not true then
            raise exception 'permission denied to forget the capture of %', called using errcode = 'insufficient_privilege';
        end if;
        if known.captured then
            update core.tb_observer_capture e set name = format('%I.%I', n.nspname, c.relname)
              from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where e.relation = known.relation and e.made_in = known.made_in and c.oid = known.there;
        else
            delete from core.tb_observer_capture e where e.relation = known.relation and e.made_in = known.made_in;
        end if;
    end loop;
    return found;
end
$$;
-- +goose StatementEnd

-- Makes the entries that came with a dump, or from the original of a copy, those of this database: for observer checkpoint set, with
-- which an operator says that this is the database to go on with. It writes what the catalogue says, whoever calls it.
-- +goose StatementBegin
create or replace function core.fn_observer_adopt_captures() returns void
    language sql security definer
    set search_path = pg_catalog, pg_temp
as $$
    select core.fn_observer_record_capture(to_regclass(e.name), e.default_key) from core.tb_observer_capture e
     where e.made_in <> core.fn_observer_made_in()
       and exists (select from pg_trigger g where g.tgrelid = to_regclass(e.name) and g.tgname = '00_observer_capture' and g.tgparentid = 0)
$$;
-- +goose StatementEnd

-- What is captured already. A trigger that somebody made by hand, in a way that cannot be read, is left out.
-- +goose StatementBegin
do $$
declare
    captured oid;
begin
    for captured in
        select g.tgrelid from pg_trigger g join pg_proc p on p.oid = g.tgfoid
         where g.tgname = '00_observer_capture' and g.tgparentid = 0 and p.pronamespace = 'core'::regnamespace
           and p.proname in ('fn_entity_change_log_capture', 'fn_observer_capture_converted')
           and g.tgrelid not in (select e.relation from core.tb_observer_capture e where e.made_in = core.fn_observer_made_in())
    loop
        begin
            perform core.fn_observer_record_capture(captured, null);
        exception when invalid_text_representation or null_value_not_allowed or not_null_violation then
            raise warning 'the capture trigger of % cannot be read', captured::regclass;
        end;
    end loop;
end
$$;
-- +goose StatementEnd

-- Who might capture tables of its own before, may so still.
revoke all on function core.fn_observer_note_capture(oid, boolean), core.fn_observer_forget_capture(text), core.fn_observer_record_capture(oid, boolean) from public;
-- +goose StatementBegin
do $$
declare
    granted regrole;
begin
    for granted in
        select a.grantee from pg_proc p cross join aclexplode(p.proacl) a
         where p.oid = 'core.fn_observer_capture_converted()'::regprocedure and a.grantee not in (0, p.proowner)
    loop
        execute format('grant execute on function core.fn_observer_note_capture(oid, boolean), core.fn_observer_forget_capture(text) to %s', granted);
    end loop;
end
$$;
-- +goose StatementEnd
