package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// captureTrigger sorts before other triggers, so that what an application's AFTER ROW trigger does to the same row is
// logged after the change that fired it. Foreign-key triggers sort later as well.
const (
	captureTrigger = "00_observer_capture"
	convertTrigger = "00_observer_as_writer" // right before: see core.fn_observer_convert
)

// How long a table is waited for. While a request for a lock waits, everybody who wants the table waits behind it.
const (
	captureLockWait = "300ms"
	captureRetry    = 200 * time.Millisecond
	capturePatience = 10 * time.Second
)

// CaptureSpec says how a table is captured. Only Table is required.
type CaptureSpec struct {
	Table   string   // as written in SQL: with its schema, or found through search_path
	Entity  string   // default: the table's name without its schema
	Key     []string // default: the primary key
	Columns []string // keep only these in the log
	Exclude []string // keep all but these; not together with Columns
	// NoBefore keeps no before-image of an UPDATE: its changes are unknown then. A DELETE keeps its image, which is its data.
	NoBefore bool
	Tenant   string // column that holds the tenant's uuid
	Bulk     bool   // refused: see AddCapture
	// Replace allows another definition than the one by which the table is captured now.
	Replace bool
}

// CaptureReport says what is captured.
type CaptureReport struct {
	Definition

	// Unchanged says that the table was captured in this way before.
	Unchanged bool `json:"unchanged,omitempty"`
	// Notes say what is not captured, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// AddCapture installs change capture on a table. A definition that it has already is left alone, another one is replaced
// only with Replace. Entity names are the table's name unless given: nothing is guessed from plurals.
//
// Capture needs the right to create triggers on the table, and to execute our trigger functions: see [GrantApp]. Bulk
// (statement triggers) is refused: they invert changes that triggers of the table make, mispair before-images when a key
// changes and miss writes to partitions.
func AddCapture(ctx context.Context, db DB, spec CaptureSpec) (CaptureReport, error) {
	var report CaptureReport
	if spec.Bulk {
		return report, errors.New("add capture: --bulk (statement triggers) is not supported yet: leave it out, rows are captured one by one")
	}
	if len(spec.Columns) > 0 && len(spec.Exclude) > 0 {
		return report, errors.New("add capture: give --columns or --exclude, not both")
	}
	if spec.Entity == "*" {
		return report, errors.New(`add capture: entity "*" means every entity to an observer: name one`)
	}
	err := withTable(ctx, db, spec.Table, func(tx pgx.Tx, t *table) error {
		report = t.plan(spec)
		if err := t.check(report); err != nil {
			return err
		}
		args := report.arguments(t.trusted)
		as, err := t.captured(ctx, tx)
		switch {
		case err != nil:
			return err
		case as == nil:
		case slices.Equal(args, as.args) && t.converts != t.trusted && as.recordedAs(&report.Definition):
			report.Unchanged = true
			return nil
		case !spec.Replace && !as.logs(&report.Definition):
			return fmt.Errorf("%s is captured in another way already; it was made by: %s; to replace that definition add --replace, and repeat what is to stay of it", t.quoted, as.command())
		}
		if err := t.install(ctx, tx, args); err != nil {
			return err
		}
		return t.note(ctx, tx, report.DefaultKey)
	})
	return report, wrap("add capture", advise(err, fmt.Sprintf("the role lacks a right: run it as the owner of %[1]s, or let the owners run: grant trigger on %[1]s to ROLE; observer migrate --grant-app ROLE", spec.Table)))
}

// withTable runs work on a table in a transaction, again and again while the table is locked.
func withTable(ctx context.Context, db DB, name string, work func(pgx.Tx, *table) error) error {
	for deadline := time.Now().Add(capturePatience); ; {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `set local lock_timeout = '`+captureLockWait+`'`); err != nil {
				return err
			}
			t, err := findTable(ctx, tx, name)
			if err != nil {
				return err
			}
			if t.through != "" {
				return fmt.Errorf("%s is captured through %s: change or remove capture there", t.quoted, t.through)
			}
			return work(tx, t)
		})
		if !hasCode(err, codeLockTimeout) || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, captureRetry); err != nil {
			return err
		}
	}
}

func (t *table) plan(spec CaptureSpec) CaptureReport {
	r := CaptureReport{Definition: Definition{
		Table: t.quoted, Entity: spec.Entity, Key: spec.Key, Columns: append([]string{}, spec.Columns...), Exclude: append([]string{}, spec.Exclude...),
		NoBefore: spec.NoBefore, Tenant: spec.Tenant,
	}, Notes: t.notes()}
	if r.Entity == "" {
		r.Entity = t.name
	}
	if len(r.Key) == 0 {
		r.Key, r.DefaultKey = t.primaryKey, true
	}
	if len(r.Key) == 0 {
		r.Notes = append(r.Notes, "The table has no primary key: its events have no entity_id and are delivered in parallel, in no order. Name one with --key.")
	}
	return r
}

// check finds every column that the table does not have, and what else capture could not do.
func (t *table) check(r CaptureReport) error {
	names := slices.Concat(r.Key, r.Columns, r.Exclude)
	if r.Tenant != "" {
		names = append(names, r.Tenant)
	}
	var errs []error
	for _, name := range names {
		if !slices.Contains(t.columns, name) {
			errs = append(errs, fmt.Errorf("%s has no column %q%s", t.quoted, name, didYouMean(name, t.columns)))
		}
	}
	if r.Tenant != "" && slices.Contains(t.columns, r.Tenant) && !slices.Contains(t.tenants, r.Tenant) {
		errs = append(errs, fmt.Errorf("column %q of %s can hold no tenant: its type is neither uuid nor text", r.Tenant, t.quoted))
	}
	for _, partition := range t.alone {
		errs = append(errs, fmt.Errorf("partition %s of %s is captured by itself: run first: observer capture remove %[1]s", partition, t.quoted))
	}
	return errors.Join(errs...)
}

// install makes the triggers. Since Postgres 14 a replacement does not stop those who only read the table.
func (t *table) install(ctx context.Context, tx pgx.Tx, args []string) error {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = quoteLiteral(a)
	}
	capture := "core.fn_entity_change_log_capture"
	if !t.trusted {
		capture = "core.fn_observer_capture_converted"
	}
	for _, g := range []struct {
		name, function string
		wanted, there  bool
	}{
		{convertTrigger, "core.fn_observer_convert", !t.trusted, t.converts},
		{captureTrigger, capture, true, t.args != nil},
	} {
		create := "create trigger"
		if t.version >= 140000 {
			create = "create or replace trigger"
		}
		if g.there && (!g.wanted || t.version < 140000) {
			if err := t.drop(ctx, tx, g.name); err != nil {
				return err
			}
		}
		if !g.wanted {
			continue
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`%s "%s" after insert or update or delete on %s for each row execute function %s(%s)`,
			create, g.name, t.quoted, g.function, strings.Join(quoted, ", ")))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *table) drop(ctx context.Context, tx pgx.Tx, trigger string) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`drop trigger if exists "%s" on %s`, trigger, t.quoted))
	return err
}
