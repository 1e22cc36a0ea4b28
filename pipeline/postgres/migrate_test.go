package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

var discard = slog.New(slog.DiscardHandler)

// connectTest opens a pool as the program does.
func connectTest(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := Connect(t.Context(), Config{URL: secret.String(url), ListenerName: "observer"}, discard)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// migrated is a database with our objects.
var migrated = testenv.NewTemplate(func(url string) error {
	pool, err := Connect(context.Background(), Config{URL: secret.String(url), ListenerName: "observer"}, discard)
	if err != nil {
		return err
	}
	defer pool.Close()
	return Migrate(context.Background(), pool, discard)
})

// migratedDB is a new database with our objects.
func migratedDB(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connectTest(t, migrated.Postgres(t))
}

func execSQL(t *testing.T, db DB, sql string, args ...any) {
	t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	_, err := db.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

func queryOne[T any](t *testing.T, db DB, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&v), sql)
	return v
}

// objects lists everything that is in the database and was not there from the start.
func objects(t *testing.T, db DB) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `
		select 'table ' || c.oid::regclass || ' ' || c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('core', 'public')
		union all select 'function ' || p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('core', 'public')
		union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_'
		union all select 'trigger ' || tgname || ' ' || tgrelid::regclass from pg_trigger where not tgisinternal
		union all select 'column ' || attrelid::regclass || '.' || attname || ' ' || atttypid::regtype || ' ' || attnotnull from pg_attribute
			where attrelid in (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('core', 'public') and c.relkind = 'r') and attnum > 0 and not attisdropped
		order by 1`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func TestMigrateIsSafeFromSeveralProcessesAtOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		pool := connectTest(t, url)
		wg.Go(func() { errs[i] = Migrate(t.Context(), pool, discard) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	pool := connectTest(t, url)
	require.NoError(t, SchemaCurrent(t.Context(), pool))
	files, err := fs.Glob(embedded, "migrations/*.sql")
	require.NoError(t, err)
	require.Equal(t, int64(1+len(files)), queryOne[int64](t, pool, `select count(*) from core.tb_observer_schema_version`))
	require.Equal(t, int64(schemaVersion), queryOne[int64](t, pool, `select max(version_id) from core.tb_observer_schema_version`))
}

func TestMigrateRunsWhileATransactionStaysOpen(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	execSQL(t, tx, `create table busy (id int)`)
	require.NoError(t, Migrate(t.Context(), pool, discard))
}

func TestSchemaCurrentSaysWhatToRun(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	err := SchemaCurrent(t.Context(), pool)
	require.ErrorIs(t, err, ErrSchema)
	require.ErrorContains(t, err, "run: observer migrate")
	require.True(t, IsFatal(err))

	require.NoError(t, Migrate(t.Context(), pool, discard))
	require.NoError(t, SchemaCurrent(t.Context(), pool))

	execSQL(t, pool, `delete from core.tb_observer_schema_version where version_id = $1`, schemaVersion)
	require.ErrorContains(t, SchemaCurrent(t.Context(), pool), fmt.Sprintf("this program needs %d; run: observer migrate", schemaVersion))
}

// TestPrintedMigrationsEqualMigrate runs the printed SQL with psql, as a DBA would.
func TestPrintedMigrationsEqualMigrate(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	var script bytes.Buffer
	require.NoError(t, PrintMigrations(&script))
	psql := exec.CommandContext(t.Context(), "psql", "-X", "-v", "ON_ERROR_STOP=1", url)
	psql.Stdin, psql.Env = &script, append(os.Environ(), "PGCLIENTENCODING=UTF8")
	out, err := psql.CombinedOutput()
	require.NoError(t, err, string(out))

	printed := connectTest(t, url)
	require.NoError(t, SchemaCurrent(t.Context(), printed))
	before := objects(t, printed)
	require.NoError(t, Migrate(t.Context(), printed, discard))
	require.Equal(t, before, objects(t, printed))
	require.Equal(t, objects(t, migratedDB(t)), before)
}

func TestMigrateDownRemovesWhatIsOursAndNothingElse(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	execSQL(t, pool, `create table orders (id int primary key)`)
	clean := objects(t, pool)
	for range 2 {
		require.NoError(t, Migrate(t.Context(), pool, discard))
		_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "orders"})
		require.NoError(t, err)
		require.NoError(t, EnsureWake(t.Context(), pool, "fraiseql_events", false))
		execSQL(t, pool, `insert into orders select coalesce(max(id), 0) + 1 from orders`)
		require.NoError(t, MigrateDown(t.Context(), pool))
		require.Equal(t, clean, objects(t, pool))
	}
	require.NoError(t, MigrateDown(t.Context(), pool), "nothing there is nothing to remove")
	execSQL(t, pool, `insert into orders values (10)`)
}

func TestMigrateDownLeavesASchemaThatHoldsOthersObjects(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	execSQL(t, pool, `create table core.tb_customer (id int); create function core.theirs() returns int language sql as 'select 1'`)
	require.NoError(t, MigrateDown(t.Context(), pool))
	list := strings.Join(objects(t, pool), "\n")
	require.Contains(t, list, "table core.tb_customer")
	require.Contains(t, list, "function core.theirs()")
	require.NotContains(t, list, "observer")
	require.NotContains(t, list, "change_log")
}

// originalLog is a change log and a checkpoint as the original tool's users have them.
const originalLog = `create schema core;
create table core.tb_entity_change_log (
	pk_entity_change_log bigint generated always as identity primary key,
	id uuid not null,
	object_type text not null,
	object_id uuid not null,
	modification_type text not null check (modification_type in ('INSERT', 'UPDATE', 'DELETE', 'NOOP')),
	object_data jsonb not null,
	extra_metadata jsonb,
	created_at timestamptz not null default now()
);
insert into core.tb_entity_change_log (id, object_type, object_id, modification_type, object_data)
select gen_random_uuid(), 'Old', gen_random_uuid(), 'INSERT', '{}' from generate_series(1, 100);
create table public.tb_observer_checkpoint (transport_name text primary key, last_pk bigint not null, updated_at timestamptz not null default now());
insert into public.tb_observer_checkpoint values ('pg_to_nats', 42)`

func TestMigrateAdoptsTheLogOfTheOriginalTool(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	execSQL(t, pool, originalLog)
	require.NoError(t, Migrate(t.Context(), pool, discard))

	require.Equal(t, int64(100), queryOne[int64](t, pool, `select count(*) from core.tb_entity_change_log where tx_id = '3'`))
	require.True(t, queryOne[bool](t, pool, `select indisvalid from pg_index where indexrelid = 'core.idx_entity_change_log_tx'::regclass`))
	require.Equal(t, "3:3: 42", queryOne[string](t, pool, `select snapshot_from || ' ' || read_up_to from tb_observer_checkpoint where snapshot_to is not null and system_identifier <> ''`))

	execSQL(t, pool, `create table orders (id bigint primary key); insert into core.tb_entity_change_log (object_type, modification_type, object_data) values ('Order', 'INSERT', '{}')`)
	_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "orders", Entity: "Order"})
	require.NoError(t, err)
	execSQL(t, pool, `insert into orders values (7); select core.emit_event('Order', '{}', '7')`)
	require.Equal(t, int64(3), queryOne[int64](t, pool, `select count(*) from core.tb_entity_change_log where tx_id > '3' and id is not null`))

	require.NoError(t, MigrateDown(t.Context(), pool))
	require.Equal(t, int64(103), queryOne[int64](t, pool, `select count(*) from core.tb_entity_change_log`), "the application's log stays")
	require.NoError(t, Migrate(t.Context(), pool, discard), "and can be adopted again")
}

func TestMigrateRefusesALogThatCaptureCannotFill(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ table, want string }{
		"a table that is no log":      {`create table core.tb_entity_change_log (id int)`, "it has no column pk_entity_change_log"},
		"a column that needs a value": {`create table core.tb_entity_change_log (pk_entity_change_log bigint generated always as identity primary key, customer int not null)`, "columns that need a value which capture cannot know: customer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connectTest(t, testenv.Postgres(t))
			execSQL(t, pool, `create schema core;`+tc.table)
			require.ErrorContains(t, Migrate(t.Context(), pool, discard), tc.want)
		})
	}
}

func TestMigrateReplacesAnIndexThatAnInterruptedBuildLeft(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	execSQL(t, pool, originalLog)
	_, err := pool.Exec(t.Context(), `create unique index concurrently idx_entity_change_log_tx on core.tb_entity_change_log (object_type)`)
	require.Error(t, err, "duplicates keep the index invalid")
	require.False(t, queryOne[bool](t, pool, `select indisvalid from pg_index where indexrelid = 'core.idx_entity_change_log_tx'::regclass`))

	require.NoError(t, Migrate(t.Context(), pool, discard))
	require.True(t, queryOne[bool](t, pool, `select indisvalid from pg_index where indexrelid = 'core.idx_entity_change_log_tx'::regclass`))
}

func TestMigrateWorksBehindATransactionPoolingProxy(t *testing.T) {
	t.Parallel()
	url := testenv.PgBouncer(t, testenv.Postgres(t))
	pool, err := Connect(t.Context(), Config{URL: secret.String(url), Wake: "poll"}, discard)
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, Migrate(t.Context(), pool, discard))
	require.NoError(t, SchemaCurrent(t.Context(), pool))
	require.Zero(t, queryOne[int64](t, pool, `select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`))
}
