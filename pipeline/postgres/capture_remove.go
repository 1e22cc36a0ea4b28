package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// RemoveCapture removes capture from a table; what it logged stays. Of a table that is no longer captured, or no longer there,
// it forgets that it was.
func RemoveCapture(ctx context.Context, db DB, name string) error {
	err := withTable(ctx, db, name, func(tx pgx.Tx, t *table) error {
		if t.args == nil {
			return t.forget(ctx, tx)
		}
		for _, trigger := range []string{captureTrigger, convertTrigger} {
			if err := t.drop(ctx, tx, trigger); err != nil {
				return err
			}
		}
		return t.note(ctx, tx, false)
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, errNoTable) {
		err = forgetCapture(ctx, db, name, err)
	}
	return wrap("remove capture", advise(err, "the role lacks a right: run it as the owner of "+name))
}

// note makes core.tb_observer_capture say what the triggers of the table say.
func (t *table) note(ctx context.Context, tx pgx.Tx, defaultKey bool) error {
	_, err := tx.Exec(ctx, `select core.fn_observer_note_capture($1::oid, $2)`, t.oid, defaultKey)
	return err
}

// forget forgets that the table, or another one of its name, was captured.
func (t *table) forget(ctx context.Context, tx pgx.Tx) error {
	var itself, name bool
	err := tx.QueryRow(ctx, `select coalesce(bool_or(i.itself), false), coalesce(bool_or(e.name = $2 and not i.itself), false) from core.tb_observer_capture e
		cross join lateral (select e.relation = $1::oid and e.made_in = core.fn_observer_made_in() as itself) i`, t.oid, t.quoted).Scan(&itself, &name)
	switch {
	case err != nil:
		return err
	case !itself && !name:
		return fmt.Errorf("%s is not captured: %w; see: observer capture list", t.quoted, ErrNotFound)
	case itself:
		err = t.note(ctx, tx, false)
	}
	if name && err == nil {
		_, err = tx.Exec(ctx, `select core.fn_observer_forget_capture($1)`, t.quoted)
	}
	return err
}

// forgetCapture forgets what was captured under a name that no table has. It returns missing when nothing was.
func forgetCapture(ctx context.Context, db DB, name string, missing error) error {
	var found *int
	err := db.QueryRow(ctx, `
		select sum(core.fn_observer_forget_capture(e.name))
		  from (select parse_ident($1) as part) i
		 cross join lateral unnest(case cardinality(i.part) when 1 then current_schemas(false)::text[] when 2 then i.part[1:1] else '{}' end) s(name)
		  join core.tb_observer_capture e on e.name = format('%I.%I', s.name, i.part[cardinality(i.part)])`, name).Scan(&found)
	if err == nil && found == nil || hasCode(err, codeBadSetting, codeNoTable, codeNoSchema) { // no name at all, or nothing of ours
		return missing
	}
	return err
}
