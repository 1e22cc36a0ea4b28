package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MigrateDown removes what is ours and nothing else: capture and wake-up triggers, functions and tables. A change log
// that an application made stays, with its rows, and so does a schema core that is not empty or that we did not create.
func MigrateDown(ctx context.Context, pool *pgxpool.Pool) error {
	err := withMigrateLock(ctx, pool, func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, down, pgx.QueryExecModeSimpleProtocol)
			return err
		})
	})
	return wrap("remove database objects", advise(err, "the role lacks a right: run it as the owner of the database objects and of the captured tables"))
}

// down names every object; nothing cascades, so that what another hand built on ours stops it with an error.
const down = `set local lock_timeout = '10s';
do $$
declare
    t record;
begin
    for t in
        select g.tgname, g.tgrelid::regclass as rel from pg_trigger g join pg_proc p on p.oid = g.tgfoid
         where p.pronamespace = to_regnamespace('core') and p.proname in ('fn_entity_change_log_capture', 'fn_observer_capture_converted', 'fn_observer_convert', 'fn_observer_wake', 'fn_observer_wake_at_commit')
           and not g.tgisinternal and g.tgparentid = 0
    loop
        execute format('drop trigger %I on %s', t.tgname, t.rel);
    end loop;
    if to_regnamespace('core') is null then
        drop table if exists public.tb_observer_checkpoint;
        return;
    end if;
    drop function if exists core.fn_entity_change_log_capture();
    drop function if exists core.fn_observer_capture_converted();
    drop function if exists core.fn_observer_convert();
    drop function if exists core.fn_observer_lost(oid, jsonb, text[], text[]);
    drop function if exists core.fn_observer_note_capture(oid, boolean);
    drop function if exists core.fn_observer_forget_capture(text);
    drop function if exists core.fn_observer_adopt_captures();
    drop function if exists core.fn_observer_made_in();
    drop function if exists core.fn_observer_record_capture(oid, boolean);
    drop function if exists core.fn_observer_arguments(bytea);
    drop function if exists core.fn_observer_wake();
    drop function if exists core.fn_observer_wake_at_commit();
    drop function if exists core.fn_observer_ensure_wake(text, boolean);
    drop function if exists core.fn_observer_wake_key(text);
    drop function if exists core.fn_observer_columns(jsonb, text, text[]);
    drop function if exists core.fn_observer_key(anyelement, text[]);
    drop function if exists core.emit_event(text, jsonb, text);
    drop table if exists public.tb_observer_checkpoint;
    drop table if exists core.tb_observer_lease;
    drop table if exists core.tb_observer_retry;
    drop table if exists core.tb_observer_dead_letter;
    drop table if exists core.tb_observer_dedup;
    drop table if exists core.tb_observer_capture;
    drop table if exists core.tb_observer_schema_version;
    drop index if exists core.idx_entity_change_log_tx;
    if obj_description(to_regclass('core.tb_entity_change_log'), 'pg_class') = 'created by observer migrate' then
        drop table core.tb_entity_change_log;
    end if;
    if obj_description(to_regnamespace('core'), 'pg_namespace') = 'created by observer migrate'
       and not exists (select from pg_class where relnamespace = 'core'::regnamespace)
       and not exists (select from pg_proc where pronamespace = 'core'::regnamespace)
       and not exists (select from pg_type where typnamespace = 'core'::regnamespace) then
        drop schema core;
    end if;
end
$$;`
