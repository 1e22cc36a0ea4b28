package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// captureTrigger sorts before other triggers, so that what an application's AFTER ROW trigger does to the same row is
// logged after the change that fired it. Foreign-key triggers sort later as well.
const captureTrigger = "00_observer_capture"

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
}

// CaptureReport says what is captured.
type CaptureReport struct {
	Table    string   `json:"table"` // quoted, with its schema
	Entity   string   `json:"entity"`
	Key      []string `json:"key"`
	Columns  []string `json:"columns,omitempty"`
	Exclude  []string `json:"exclude,omitempty"`
	NoBefore bool     `json:"no_before,omitempty"`
	Tenant   string   `json:"tenant,omitempty"`
	// Notes say what is not captured, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// AddCapture installs change capture on a table, or replaces the one it has. Entity names are the table's name unless
// given: nothing is guessed from plurals.
//
// Capture needs the right to create triggers on the table. Bulk (statement triggers) is refused: they invert changes that
// triggers of the table make, mispair before-images when a key changes and miss writes to partitions.
func AddCapture(ctx context.Context, db DB, spec CaptureSpec) (CaptureReport, error) {
	var report CaptureReport
	if spec.Bulk {
		return report, errors.New("add capture: --bulk (statement triggers) is not supported yet: leave it out, rows are captured one by one")
	}
	if len(spec.Columns) > 0 && len(spec.Exclude) > 0 {
		return report, errors.New("add capture: give --columns or --exclude, not both")
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		t, err := findTable(ctx, tx, spec.Table)
		if err != nil {
			return err
		}
		report = t.plan(spec)
		if err := t.checkNames(report); err != nil {
			return err
		}
		return t.install(ctx, tx, report)
	})
	if hasCode(err, codeNoRight) {
		return report, fmt.Errorf("add capture: %w (run it as the owner of %s, or: grant trigger on %[2]s to ROLE)", err, spec.Table)
	}
	return report, wrap("add capture", err)
}

func (t *table) plan(spec CaptureSpec) CaptureReport {
	r := CaptureReport{
		Table: t.quoted, Entity: spec.Entity, Key: spec.Key,
		Columns: spec.Columns, Exclude: spec.Exclude, NoBefore: spec.NoBefore, Tenant: spec.Tenant, Notes: t.notes(),
	}
	if r.Entity == "" {
		r.Entity = t.name
	}
	if len(r.Key) == 0 {
		r.Key = t.primaryKey
	}
	if len(r.Key) == 0 {
		r.Notes = append(r.Notes, "The table has no primary key: its events have no entity_id and are delivered one after the other. Name one with --key.")
	}
	return r
}

// checkNames finds every column that the table does not have.
func (t *table) checkNames(r CaptureReport) error {
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
	return errors.Join(errs...)
}

// arguments are those of core.fn_entity_change_log_capture; one or two are its fast path.
func (r *CaptureReport) arguments() []string {
	if len(r.Key) <= 1 && len(r.Columns)+len(r.Exclude) == 0 && !r.NoBefore && r.Tenant == "" {
		return append([]string{r.Entity}, r.Key...)
	}
	mode, columns := "", r.Columns
	if len(r.Columns) > 0 {
		mode = "include"
	} else if len(r.Exclude) > 0 {
		mode, columns = "exclude", r.Exclude
	}
	return []string{r.Entity, arrayLiteral(r.Key), mode, arrayLiteral(columns), strconv.FormatBool(!r.NoBefore), r.Tenant}
}

func (t *table) install(ctx context.Context, tx pgx.Tx, r CaptureReport) error {
	var quoted []string
	for _, a := range r.arguments() {
		quoted = append(quoted, quoteLiteral(a))
	}
	for _, statement := range []string{
		`set local lock_timeout = '10s'`,
		fmt.Sprintf(`drop trigger if exists "%s" on %s`, captureTrigger, t.quoted),
		fmt.Sprintf(`create trigger "%s" after insert or update or delete on %s for each row execute function core.fn_entity_change_log_capture(%s)`,
			captureTrigger, t.quoted, strings.Join(quoted, ", ")),
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// RemoveCapture removes capture from a table; what it logged stays.
func RemoveCapture(ctx context.Context, db DB, name string) error {
	return wrap("remove capture", pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		t, err := findTable(ctx, tx, name)
		if err != nil {
			return err
		}
		if !t.captured {
			return fmt.Errorf("%s is not captured: %w; see: observer capture list", t.quoted, ErrNotFound)
		}
		if _, err := tx.Exec(ctx, `set local lock_timeout = '10s'`); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf(`drop trigger "%s" on %s`, captureTrigger, t.quoted))
		return err
	}))
}

func arrayLiteral(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(item) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// quoteLiteral writes s for SQL whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	s = strings.ReplaceAll(s, `'`, `''`)
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return `'` + s + `'`
}
