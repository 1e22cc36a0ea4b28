package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// GrantApp gives an application's role what it needs to emit events: core.emit_event, and to insert rows of its own into
// the log, and to capture tables that it owns. Writing to a captured table needs no grant: the trigger function that logs runs
// with its owner's rights.
func GrantApp(ctx context.Context, db DB, role string) error {
	return grant(ctx, db, role, []string{
		`grant usage on schema core to %s`,
		`grant execute on function core.emit_event(text, jsonb, text), core.fn_observer_capture_converted(), core.fn_observer_convert(),
			core.fn_observer_note_capture(oid, boolean), core.fn_observer_forget_capture(text) to %s`,
		`grant insert (id, object_type, modification_type, object_id, object_key, object_data, object_data_before, tenant_id, user_id,
			actor_type, schema_version, trace_context, extra_metadata, seq, created_at) on core.tb_entity_change_log to %s`,
	})
}

// GrantWorker gives the role of an observer process what run needs, with auto_migrate on or off, and nothing more. Creating
// objects and capturing tables stay with the owner. Delete on the log is for retention_days.
func GrantWorker(ctx context.Context, db DB, role string) error {
	return grant(ctx, db, role, []string{
		`grant usage on schema core, public to %s`,
		`grant select, insert, update, delete on core.tb_entity_change_log to %s`,
		`grant select, insert, update, delete on public.tb_observer_checkpoint, core.tb_observer_lease, core.tb_observer_retry, core.tb_observer_dead_letter, core.tb_observer_dedup to %s`,
		`grant select on core.tb_observer_schema_version to %s`,
		`grant execute on function core.emit_event(text, jsonb, text), core.fn_observer_ensure_wake(text, boolean) to %s`,
	})
}

func grant(ctx context.Context, db DB, role string, statements []string) error {
	var known bool
	if err := db.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1)`, role).Scan(&known); err != nil {
		return wrap("grant to "+role, err)
	}
	if !known {
		return fmt.Errorf("grant to %s: no such role: run: create role %s login", role, pgx.Identifier{role}.Sanitize())
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{role}.Sanitize())); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap("grant to "+role, advise(err, "the role lacks a right: run it as the owner of the database objects"))
}
