package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// table is what the catalogue knows of a table that a user named.
type table struct {
	oid         uint32
	quoted      string // schema.name, quoted
	name        string
	kind        string // relkind
	persistence string // relpersistence
	parent      bool   // is itself a partition
	captured    bool
	columns     []string
	generated   []string
	primaryKey  []string
	earlier     []string // row triggers that fire before ours
}

const describeTable = `select c.oid, format('%I.%I', n.nspname, c.relname), c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
       exists (select from pg_trigger where tgrelid = c.oid and tgname = '` + captureTrigger + `'),
       array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped order by attnum),
       array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated <> '' order by attnum),
       array(select a.attname::text from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
               join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
              where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts order by k.n),
       array(select tgname::text from pg_trigger where tgrelid = c.oid and not tgisinternal and tgtype & 1 = 1 and tgtype & 2 = 0 and tgname < '` + captureTrigger + `' order by 1)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.oid = to_regclass($1)`

// findTable reads name as SQL does: quoted parts keep their case, and without a schema search_path finds it.
func findTable(ctx context.Context, db DB, name string) (*table, error) {
	var t table
	err := db.QueryRow(ctx, describeTable, name).Scan(&t.oid, &t.quoted, &t.name, &t.kind, &t.persistence, &t.parent, &t.captured,
		&t.columns, &t.generated, &t.primaryKey, &t.earlier)
	if errors.Is(err, pgx.ErrNoRows) || hasCode(err, "42602", "42601", "0A000") { // no name at all, or of another database
		return nil, missingTable(ctx, db, name)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case t.kind != "r" && t.kind != "p":
		return nil, fmt.Errorf("%s is no table: only tables and partitioned tables are captured", t.quoted)
	case strings.HasPrefix(t.quoted, "core.tb_observer_") || t.quoted == "core.tb_entity_change_log" || t.quoted == "public.tb_observer_checkpoint":
		return nil, fmt.Errorf("%s belongs to observer itself and is not captured", t.quoted)
	case t.persistence == "t":
		return nil, fmt.Errorf("%s is a temporary table: it would end with its session", t.quoted)
	}
	return &t, nil
}

func missingTable(ctx context.Context, db DB, name string) error {
	unknown := fmt.Errorf("table %s: %w: write SCHEMA.TABLE as in SQL, or check the database in transport.postgres.url", name, ErrNotFound)
	rows, err := db.Query(ctx, `select format('%I.%I', schemaname, tablename) from pg_tables
		where schemaname not in ('pg_catalog', 'information_schema') and schemaname not like 'pg\_%' order by 1 limit 10000`)
	if err != nil {
		return unknown // the transaction may have ended with the first error
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return unknown
	}
	if hint := didYouMean(name, names); hint != "" {
		return fmt.Errorf("table %s: %w%s", name, ErrNotFound, hint)
	}
	return unknown
}

// notes says what capture does not see, and what may surprise.
func (t *table) notes() []string {
	notes := []string{
		"TRUNCATE is not captured.",
		"Changes made with session_replication_role = replica (logical replication, some restores) are not captured.",
	}
	if t.kind == "p" {
		notes = append(notes, "Partitions are captured with their parent, those made later too; a row that moves to another partition is a DELETE and an INSERT.")
	}
	if t.parent {
		notes = append(notes, "This is a partition: only its own rows are captured.")
	}
	if t.persistence == "u" {
		notes = append(notes, "The table is unlogged: a crash of the server empties it without any event.")
	}
	if len(t.generated) > 0 {
		notes = append(notes, "Generated columns ("+strings.Join(t.generated, ", ")+") are captured with their stored values.")
	}
	if len(t.earlier) > 0 {
		notes = append(notes, "Triggers that fire before capture ("+strings.Join(t.earlier, ", ")+"): what they do to the same row is logged before the change that fired them.")
	}
	return notes
}
