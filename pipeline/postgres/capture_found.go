package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// found is what the catalogue and core.tb_observer_capture say of a table that is captured, or was.
type found struct {
	table     string   // its name now, quoted, with its schema; empty: it is gone
	args      []string // of the capture trigger; nil: there is none
	enabled   string   // tgenabled of the capture trigger
	converts  string   // that of the trigger that converts with the writer's rights; empty: there is none
	converted bool     // the capture trigger needs it
	exposed   bool     // the capture trigger converts by itself, and the table has an owner for whom it should not
	covered   bool     // a partition that is captured with its table
	columns   []string
	numbers   []int16 // attnums of columns
	tenants   []string
	primary   []string // the columns of the primary key
	off       []string // partitions whose triggers are disabled
	recorded  *recorded
	namesake  string // a table has the recorded name, and this one has not: captured or bare
}

// recorded is an entry of core.tb_observer_capture.
type recorded struct {
	name       string
	arguments  []string
	defaultKey bool
	known      bool // in this database, not in one of which it is a dump or a copy
	columns    []string
	numbers    []int16
}

var findCapturesSQL = `with g as (
		select g.tgrelid, g.tgargs, g.tgenabled::text as enabled, p.proname = 'fn_observer_capture_converted' as converted, p.proowner
		  from pg_trigger g join pg_proc p on p.oid = g.tgfoid
		 where p.proname in ('fn_entity_change_log_capture', 'fn_observer_capture_converted') and p.pronamespace = to_regnamespace('core')
		   and g.tgparentid = 0 and not g.tgisinternal),
	e as (
		select e.*, h.known, case when h.known then e.relation else to_regclass(e.name)::oid end as captured
		  from core.tb_observer_capture e cross join lateral (select e.made_in = core.fn_observer_made_in() as known) h)
	select coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), ''), g.tgargs, coalesce(g.enabled, ''),
	       coalesce((select k.tgenabled::text from pg_trigger k where k.tgrelid = c.oid and k.tgname = '` + convertTrigger + `'), ''),
	       coalesce(g.converted, false), coalesce(not g.converted and not pg_has_role(c.relowner, g.proowner, 'member'), false),
	       exists (select from pg_trigger k where k.tgrelid = c.oid and k.tgname = '` + captureTrigger + `' and k.tgparentid <> 0),
	       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
	       array(select a.attnum from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
	       ` + tenantColumns + `, ` + primaryKeyColumns + `,
	       case c.relkind when 'p' then array(
	           select distinct ` + qualified("t.relid") + ` from pg_partition_tree(c.oid) t join pg_trigger k on k.tgrelid = t.relid
	            where t.relid <> c.oid and k.tgname in ('` + captureTrigger + `', '` + convertTrigger + `') and k.tgparentid <> 0 and k.tgenabled not in ('O', 'A')
	            order by 1) else '{}' end,
	       e.name, e.arguments, coalesce(e.default_key, false), coalesce(e.known, false), coalesce(e.columns, '{}'),
	       case when e.known then e.numbers else '{}' end,
	       coalesce(case when (quote_ident(n.nspname) || '.' || quote_ident(c.relname)) is distinct from e.name then (
	           select case when exists (select from pg_trigger k where k.tgrelid = r.oid and k.tgname = '` + captureTrigger + `') then 'captured' else 'bare' end
	             from pg_class r join pg_namespace s on s.oid = r.relnamespace
	            where r.relkind in ('r', 'p') and format('%I.%I', s.nspname, r.relname) = e.name) end, '')
	  from g full join e on e.captured = g.tgrelid
	  left join pg_class c on c.oid = coalesce(g.tgrelid, e.captured) left join pg_namespace n on n.oid = c.relnamespace
	 where $1::oid is null or c.oid = $1
	 order by coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), e.name)`

// findCaptures looks at every table, or at one.
func findCaptures(ctx context.Context, db DB, only *uint32) ([]found, error) {
	rows, err := db.Query(ctx, findCapturesSQL, only)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		var args []byte
		var name *string
		var r recorded
		err = row.Scan(&f.table, &args, &f.enabled, &f.converts, &f.converted, &f.exposed, &f.covered, &f.columns, &f.numbers, &f.tenants, &f.primary, &f.off,
			&name, &r.arguments, &r.defaultKey, &r.known, &r.columns, &r.numbers, &f.namesake)
		if args != nil {
			f.args = splitArguments(args)
		}
		if name != nil {
			r.name = *name
			f.recorded = &r
		}
		return f, err
	})
}

// What has the recorded name of a table that has another one now.
const (
	capturedNamesake = "captured"
	bareNamesake     = "bare"
)

// captured is how a table is captured now; nil: not at all.
func (t *table) captured(ctx context.Context, db DB) (*found, error) {
	list, err := findCaptures(ctx, db, &t.oid)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].args != nil {
			return &list[i], nil
		}
	}
	return nil, nil //nolint:nilnil // it is not captured
}

// recordedAs reports whether nothing is to be done for a table to be captured as d says.
func (f *found) recordedAs(d *Definition) bool {
	r := f.recorded
	return f.standing().State == CaptureOK && r != nil && r.known && r.name == f.table && r.defaultKey == d.DefaultKey && slices.Equal(r.arguments, f.args)
}

// logs reports whether the table is captured as d says.
func (f *found) logs(d *Definition) bool {
	now := f.definition(f.args)
	return now.same(*d)
}

// command is what made the capture.
func (f *found) command() string {
	d := f.definition(f.args)
	return d.command()
}
