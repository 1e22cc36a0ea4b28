package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// errNoTable says that a name is that of something else, such as a view.
var errNoTable = errors.New("is no table")

// firstNormalOID is the first that Postgres gives to what users create.
const firstNormalOID = 16384

// table is what the catalogue knows of a table that a user named.
type table struct {
	oid         uint32
	quoted      string // schema.name, quoted
	name        string
	kind        string // relkind
	persistence string // relpersistence
	partition   bool
	args        []string // of the capture trigger, nil when there is none
	through     string   // the partitioned table whose capture covers this one
	alone       []string // partitions that are captured by themselves
	heirs       []string // tables that inherit from this one and are no partitions
	converts    bool     // has the trigger that converts with the writer's rights
	trusted     bool     // see trustedTable
	version     int      // of the server
	columns     []string
	tenants     []string // columns whose type can hold a tenant
	generated   []string
	primaryKey  []string
	earlier     []string // row triggers that fire before ours
}

// qualified writes a relation with its schema, whatever search_path is.
func qualified(oid string) string {
	return `(select format('%I.%I', qn.nspname, qc.relname) from pg_class qc join pg_namespace qn on qn.oid = qc.relnamespace where qc.oid = ` + oid + `)`
}

// Columns of the table c whose type can hold a tenant, and those of its primary key.
const (
	tenantColumns = `array(select a.attname::text from pg_attribute a join pg_type y on y.oid = a.atttypid where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and (y.typcategory = 'S' or 'uuid'::regtype in (y.oid, y.typbasetype)))`
	primaryKeyColumns = `array(select a.attname::text from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
               join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
              where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts order by k.n)`
)

var describeTable = `select c.oid, format('%I.%I', n.nspname, c.relname), c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
       g.tgargs, case when g.tgparentid <> 0 then ` + qualified("pg_partition_root(c.oid)") + ` else '' end,
       array(select ` + qualified("p.relid") + ` from pg_partition_tree(c.oid) p join pg_trigger a on a.tgrelid = p.relid
              where p.relid <> c.oid and a.tgname = '` + captureTrigger + `' and a.tgparentid = 0 order by 1),
       array(select ` + qualified("i.inhrelid") + ` from pg_inherits i where i.inhparent = c.oid and c.relkind = 'r' order by 1),
       exists (select from pg_trigger where tgrelid = c.oid and tgname = '` + convertTrigger + `'),
       ` + trustedTable + `, current_setting('server_version_num')::integer,
       array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped order by attnum),
       ` + tenantColumns + `,
       array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated <> '' order by attnum),
       ` + primaryKeyColumns + `,
       array(select tgname::text from pg_trigger where tgrelid = c.oid and not tgisinternal and tgtype & 1 = 1 and tgtype & 2 = 0 and tgname < '` + convertTrigger + `' order by 1)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_trigger g on g.tgrelid = c.oid and g.tgname = '` + captureTrigger + `'
 where c.oid = to_regclass($1)`

// trustedTable reports whether the owners of a table and of everything that its columns consist of may act as the owner of
// the capture function anyway. Then that function may convert the rows itself, which is cheaper: nobody gains rights by a
// cast to json that to_jsonb runs.
const trustedTable = `coalesce((select bool_and(pg_has_role(y.typowner, p.proowner, 'member')) from pg_type y, pg_proc p
         where p.oid = to_regprocedure('core.fn_entity_change_log_capture()') and y.oid in (
               with recursive part(oid) as (
                     select c.reltype
                      union
                     select s.oid from part join pg_type y on y.oid = part.oid cross join lateral (
                            select y.typelem union all select y.typbasetype union all
                            select a.atttypid from pg_attribute a where a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped) s(oid)
                      where s.oid <> 0)
               select oid from part)), false)`

// findTable reads name as SQL does: quoted parts keep their case, and without a schema search_path finds it.
func findTable(ctx context.Context, db DB, name string) (*table, error) {
	var t table
	var args []byte
	err := db.QueryRow(ctx, describeTable, name).Scan(&t.oid, &t.quoted, &t.name, &t.kind, &t.persistence, &t.partition,
		&args, &t.through, &t.alone, &t.heirs, &t.converts, &t.trusted, &t.version, &t.columns, &t.tenants, &t.generated, &t.primaryKey, &t.earlier)
	if errors.Is(err, pgx.ErrNoRows) || hasCode(err, "42602", "42601", "0A000") { // no name at all, or of another database
		return nil, missingTable(ctx, db, name)
	}
	if err != nil {
		return nil, err
	}
	if args != nil {
		t.args = splitArguments(args)
	}
	switch {
	case t.oid < firstNormalOID:
		return nil, fmt.Errorf("%s belongs to Postgres itself and cannot be captured", t.quoted)
	case t.kind != "r" && t.kind != "p":
		return nil, fmt.Errorf("%s %w: only tables and partitioned tables are captured", t.quoted, errNoTable)
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
		notes = append(notes, "Partitions are captured with their parent, those made later too; a row that moves to another partition is a DELETE and an INSERT. One that is detached is no longer captured.")
	}
	if len(t.heirs) > 0 {
		notes = append(notes, "Rows of the tables that inherit from it ("+strings.Join(t.heirs, ", ")+") are not captured: capture each of them as well.")
	}
	if t.partition {
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
