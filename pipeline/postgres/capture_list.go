package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ListCaptures returns every captured table, by name. Partitions that are captured with their parent are not listed.
func ListCaptures(ctx context.Context, db DB) ([]CaptureReport, error) {
	rows, err := db.Query(ctx, `select format('%I.%I', n.nspname, c.relname), g.tgargs
		from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace join pg_proc p on p.oid = g.tgfoid
		where p.proname in ('fn_entity_change_log_capture', 'fn_observer_capture_converted') and p.pronamespace = to_regnamespace('core') and g.tgparentid = 0 and not g.tgisinternal order by 1`)
	if err != nil {
		return nil, wrap("list captures", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r CaptureReport, err error) {
		var args []byte
		if err := row.Scan(&r.Table, &args); err != nil {
			return r, err
		}
		return r, r.parse(splitArguments(args))
	})
	return list, wrap("list captures", err)
}

// splitArguments reads pg_trigger.tgargs: each argument ends with a zero byte.
func splitArguments(tgargs []byte) []string {
	return strings.Split(strings.TrimSuffix(string(tgargs), "\x00"), "\x00")
}

// parse reads the arguments of a trigger.
func (r *CaptureReport) parse(args []string) error {
	r.Entity = args[0]
	r.Key = []string{}
	if len(args) < 6 {
		r.Key = append(r.Key, args[1:]...)
		return nil
	}
	var columns []string
	if err := scanArray(args[1], &r.Key); err != nil {
		return err
	}
	if err := scanArray(args[3], &columns); err != nil {
		return err
	}
	switch args[2] {
	case "include":
		r.Columns = columns
	case "exclude":
		r.Exclude = columns
	}
	r.NoBefore = args[4] == "false"
	r.Tenant = args[5]
	return nil
}

func scanArray(literal string, into *[]string) error {
	return pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(literal), into)
}
