package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// logged is the log as text, in its order: "UPDATE 7 {before} -> {data}".
func logged(t *testing.T, db DB) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `select object_type || ' ' || modification_type || ' ' || coalesce(object_key, '-') || ' ' ||
		coalesce(object_data_before::text, '-') || ' -> ' || coalesce(object_data::text, '-') || coalesce(' ' || extra_metadata::text, '')
		from core.tb_entity_change_log order by pk_entity_change_log`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func capturing(t *testing.T, ddl string, specs ...CaptureSpec) *pgxpool.Pool {
	t.Helper()
	pool := migratedDB(t)
	execSQL(t, pool, ddl)
	for _, spec := range specs {
		_, err := AddCapture(t.Context(), pool, spec)
		require.NoError(t, err)
	}
	return pool
}

func TestCaptureLogs(t *testing.T) {
	t.Parallel()
	const order = `create table orders (id bigint primary key, s text);`
	of := []CaptureSpec{{Table: "orders", Entity: "Order"}}
	for name, tc := range map[string]struct {
		ddl  string
		spec []CaptureSpec
		sql  string
		want []string
	}{
		"insert, update, delete": {order, of, `insert into orders values (9007199254740993, 'a'); update orders set s = 'b'; delete from orders`, []string{
			`Order INSERT 9007199254740993 - -> {"s": "a", "id": 9007199254740993}`,
			`Order UPDATE 9007199254740993 {"s": "a", "id": 9007199254740993} -> {"s": "b", "id": 9007199254740993}`,
			`Order DELETE 9007199254740993 {"s": "b", "id": 9007199254740993} -> -`,
		}},
		"an application trigger that updates its own row after the change that fired it": {order + `
			create function app() returns trigger language plpgsql as $$ begin update orders set s = 'app' where id = new.id; return null; end $$;
			create trigger app after insert on orders for each row execute function app();`, of, `insert into orders values (1, 'a')`, []string{
			`Order INSERT 1 - -> {"s": "a", "id": 1}`,
			`Order UPDATE 1 {"s": "a", "id": 1} -> {"s": "app", "id": 1}`,
		}},
		"an update of the key under the new key, with the same row's before": {order, of, `insert into orders values (1, 'a'), (2, 'b'); truncate core.tb_entity_change_log; update orders set id = id + 10`, []string{
			`Order UPDATE 11 {"s": "a", "id": 1} -> {"s": "a", "id": 11}`,
			`Order UPDATE 12 {"s": "b", "id": 2} -> {"s": "b", "id": 12}`,
		}},
		"swapped deferrable keys": {`create table orders (id int primary key deferrable initially deferred, s text);`, of, `insert into orders values (1, 'a'), (2, 'b'); truncate core.tb_entity_change_log; update orders set id = 3 - id`, []string{
			`Order UPDATE 2 {"s": "a", "id": 1} -> {"s": "a", "id": 2}`,
			`Order UPDATE 1 {"s": "b", "id": 2} -> {"s": "b", "id": 1}`,
		}},
		"writes to a partition, and a move as DELETE and INSERT": {
			`create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20);`,
			[]CaptureSpec{{Table: "p"}},
			`insert into p values (1); insert into p1 values (2); update p set id = 11 where id = 1; update p1 set id = 3;
			create table p3 partition of p for values from (20) to (30); insert into p3 values (20)`,
			[]string{
				`p INSERT 1 - -> {"id": 1}`, `p INSERT 2 - -> {"id": 2}`, `p DELETE 1 {"id": 1} -> -`, `p INSERT 11 - -> {"id": 11}`,
				`p UPDATE 3 {"id": 2} -> {"id": 3}`, `p INSERT 20 - -> {"id": 20}`,
			},
		},
		"a table without a primary key": {`create table bare (v int);`, []CaptureSpec{{Table: "bare"}}, `insert into bare values (1); update bare set v = 2`, []string{
			`bare INSERT - - -> {"v": 1}`, `bare UPDATE - {"v": 1} -> {"v": 2}`,
		}},
		"composite keys as a JSON array": {`create table c (b text, a int, primary key (a, b));`, []CaptureSpec{{Table: "c"}}, `insert into c values ('x"y', 1)`, []string{`c INSERT [1, "x\"y"] - -> {"a": 1, "b": "x\"y"}`}},
		"a named key":                    {`create table c (a int, b text);`, []CaptureSpec{{Table: "c", Key: []string{"b"}}}, `insert into c values (1, 'k')`, []string{`c INSERT k - -> {"a": 1, "b": "k"}`}},
		"an upsert as INSERT and UPDATE": {order, of, `insert into orders values (1, 'a'); insert into orders values (1, 'b'), (2, 'c') on conflict (id) do update set s = excluded.s`, []string{
			`Order INSERT 1 - -> {"s": "a", "id": 1}`, `Order UPDATE 1 {"s": "a", "id": 1} -> {"s": "b", "id": 1}`, `Order INSERT 2 - -> {"s": "c", "id": 2}`,
		}},
		"a cascade after the row that caused it": {
			`create table a (id int primary key); create table b (id int primary key, a int references a on delete cascade);`,
			[]CaptureSpec{{Table: "a"}, {Table: "b"}},
			`insert into a values (1); insert into b values (5, 1); truncate core.tb_entity_change_log; delete from a`,
			[]string{`a DELETE 1 {"id": 1} -> -`, `b DELETE 5 {"a": 1, "id": 5} -> -`},
		},
		"no change of a savepoint that was rolled back": {order, of, `begin; insert into orders values (1, 'a'); savepoint s; insert into orders values (2, 'b'); rollback to s; insert into orders values (3, 'c'); commit`, []string{
			`Order INSERT 1 - -> {"s": "a", "id": 1}`, `Order INSERT 3 - -> {"s": "c", "id": 3}`,
		}},
		"only the named columns":   {order, []CaptureSpec{{Table: "orders", Columns: []string{"s"}}}, `insert into orders values (1, 'a'); delete from orders`, []string{`orders INSERT 1 - -> {"s": "a"}`, `orders DELETE 1 {"s": "a"} -> -`}},
		"not the excluded columns": {order, []CaptureSpec{{Table: "orders", Exclude: []string{"s", "id"}}}, `insert into orders values (1, 'a')`, []string{`orders INSERT 1 - -> {}`}},
		"no before-image when told so": {order, []CaptureSpec{{Table: "orders", NoBefore: true}}, `insert into orders values (1, 'a'); update orders set s = 'b'; delete from orders`, []string{
			`orders INSERT 1 - -> {"s": "a", "id": 1}`, `orders UPDATE 1 - -> {"s": "b", "id": 1}`, `orders DELETE 1 {"s": "b", "id": 1} -> -`,
		}},
		"nothing while a mediator captures": {order, of, `set fraiseql.cdc_mediated = 'on'; insert into orders values (1, 'a'); reset fraiseql.cdc_mediated; insert into orders values (2, 'b')`, []string{`Order INSERT 2 - -> {"s": "b", "id": 2}`}},
		"names that need quoting": {
			`create schema "My""S"; create table "My""S"."T'a\ble" ("K, ""e\y" int primary key, "x y" int);`,
			[]CaptureSpec{{Table: `"My""S"."T'a\ble"`, Entity: `it's \ "q"`, Exclude: []string{"x y"}}},
			`insert into "My""S"."T'a\ble" values (1, 2)`,
			[]string{`it's \ "q" INSERT 1 - -> {"K, \"e\\y": 1}`},
		},
		"custom events": {``, nil, `select core.emit_event('Order', '{"a": 1}', '7'); select core.emit_event('Order', null)`, []string{`Order CUSTOM 7 - -> {"a": 1}`, `Order CUSTOM - - -> null`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := capturing(t, tc.ddl, tc.spec...)
			execSQL(t, pool, tc.sql)
			require.Equal(t, tc.want, logged(t, pool))
		})
	}
}

func TestCopyIsCapturedRowByRow(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id bigint primary key, s text)`, CaptureSpec{Table: "orders"})
	n, err := pool.CopyFrom(t.Context(), pgx.Identifier{"orders"}, []string{"id", "s"}, pgx.CopyFromSlice(10_000, func(i int) ([]any, error) {
		return []any{int64(i), strconv.Itoa(i)}, nil
	}))
	require.NoError(t, err)
	require.Equal(t, n, queryOne[int64](t, pool, `select count(distinct object_key) from core.tb_entity_change_log where object_data ->> 's' = object_key`))
}

func TestWhatDoesNotConvertBecomesAMarkerRowAndFailsNothing(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table docs (id int primary key, doc json)`, CaptureSpec{Table: "docs"})
	execSQL(t, pool, `insert into docs select g, case when g = 500 then '{"a":"\u0000"}' else '{}' end::json from generate_series(1, 1000) g`)
	require.Equal(t, 1000, queryOne[int](t, pool, `select count(*) from docs`))
	require.Equal(t, 999, queryOne[int](t, pool, `select count(*) from core.tb_entity_change_log where object_data is not null`))
	marker := `select object_key || ' ' || (extra_metadata ->> 'capture_error') from core.tb_entity_change_log where object_data is null and modification_type = $1`
	require.Equal(t, "500 unsupported Unicode escape sequence", queryOne[string](t, pool, marker, "INSERT"))
	execSQL(t, pool, `delete from docs where id = 500`)
	require.Equal(t, "500 unsupported Unicode escape sequence", queryOne[string](t, pool, marker, "DELETE"))
	require.Nil(t, queryOne[*string](t, pool, `select object_data_before::text from core.tb_entity_change_log where modification_type = 'DELETE'`))
}

func TestMarkerRowsOfCompositeAndAbsentKeys(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table two (a int, b text, doc json, primary key (a, b)); create table none (doc json)`, CaptureSpec{Table: "two"}, CaptureSpec{Table: "none"})
	execSQL(t, pool, `insert into two values (1, 'x', '"\u0000"'); insert into none values ('"\u0000"')`)
	require.Equal(t, []string{
		`two INSERT [1, "x"] - -> - {"capture_error": "unsupported Unicode escape sequence"}`,
		`none INSERT - - -> - {"capture_error": "unsupported Unicode escape sequence"}`,
	}, logged(t, pool))
}

// TestConversionTakesNoTransactionID: the guarded block writes nothing, so that all rows carry the transaction's own id.
func TestConversionTakesNoTransactionID(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int primary key)`, CaptureSpec{Table: "orders"})
	execSQL(t, pool, `insert into orders select generate_series(1, 100)`)
	require.Equal(t, 1, queryOne[int](t, pool, `select count(distinct l.xmin::text) from core.tb_entity_change_log l where l.xmin::text = l.tx_id::text`))
}

func TestIdentitiesOfARow(t *testing.T) {
	t.Parallel()
	const id, tenant = "0d9a2b4e-6f14-4b62-9b39-1d3f3a1f9c11", "7e57ab1e-0000-4000-8000-000000000001"
	pool := capturing(t, `create table u (id uuid primary key, org text)`, CaptureSpec{Table: "u", Tenant: "org"})
	execSQL(t, pool, `set fraiseql.user_id = 'ada'; insert into u values ('`+id+`', '`+tenant+`'); reset fraiseql.user_id; update u set org = 'no uuid'`)
	require.Equal(t, id+" "+id+" "+tenant+" ada", queryOne[string](t, pool, `select concat_ws(' ', object_key, object_id, tenant_id, user_id) from core.tb_entity_change_log where modification_type = 'INSERT'`))
	require.Equal(t, id+" "+id, queryOne[string](t, pool, `select concat_ws(' ', object_key, object_id, tenant_id, user_id) from core.tb_entity_change_log where modification_type = 'UPDATE'`))
}

// TestCaptureDoesNotTrustTheCallersSearchPath plants objects where a careless definer function would find them.
func TestCaptureDoesNotTrustTheCallersSearchPath(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int primary key);
		create schema evil; create function evil.to_jsonb(anyelement) returns jsonb language plpgsql as 'begin raise exception ''evil''; end';
		create function evil.length(text) returns int language plpgsql as 'begin raise exception ''evil''; end'`, CaptureSpec{Table: "orders"})
	execSQL(t, pool, `set search_path = evil, pg_catalog, public; insert into orders values (1); reset search_path`)
	require.Equal(t, []string{`orders INSERT 1 - -> {"id": 1}`}, logged(t, pool))
}

func TestAddCaptureRefuses(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	execSQL(t, pool, `create table orders (id int primary key, status text); create view v as select 1 as x;
		create table part (id int primary key) partition by range (id); create table part_1 partition of part for values from (0) to (10);
		create table split (id int primary key) partition by range (id); create table split_1 partition of split for values from (0) to (10)`)
	for _, captured := range []string{"part", "split_1"} {
		_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: captured})
		require.NoError(t, err)
	}
	for name, tc := range map[string]struct {
		spec CaptureSpec
		want string
	}{
		"a missing table":           {CaptureSpec{Table: "ordres"}, "table ordres: not found; did you mean public.orders?"},
		"a missing table like none": {CaptureSpec{Table: "zzzzzzzzzz"}, "write SCHEMA.TABLE as in SQL"},
		"what is no name":           {CaptureSpec{Table: "a b; drop table orders"}, "not found"},
		"missing columns":           {CaptureSpec{Table: "orders", Key: []string{"idd"}, Tenant: "nope_at_all"}, "public.orders has no column \"idd\"; did you mean id?\npublic.orders has no column \"nope_at_all\""},
		"a view":                    {CaptureSpec{Table: "v"}, "public.v is no table"},
		"our own tables":            {CaptureSpec{Table: "core.tb_entity_change_log"}, "belongs to observer itself"},
		"tables of Postgres":        {CaptureSpec{Table: "pg_catalog.pg_class"}, "pg_catalog.pg_class belongs to Postgres itself"},
		"the entity of all":         {CaptureSpec{Table: "orders", Entity: "*"}, "means every entity"},
		"a number as the tenant":    {CaptureSpec{Table: "orders", Tenant: "id"}, "its type is neither uuid nor text"},
		"a captured table's part":   {CaptureSpec{Table: "part_1"}, "public.part_1 is captured through public.part: change or remove capture there"},
		"a captured part's table":   {CaptureSpec{Table: "split"}, "partition public.split_1 of public.split is captured by itself: run first: observer capture remove public.split_1"},
		"bulk":                      {CaptureSpec{Table: "orders", Bulk: true}, "--bulk (statement triggers) is not supported yet"},
		"both kinds of columns":     {CaptureSpec{Table: "orders", Columns: []string{"id"}, Exclude: []string{"id"}}, "not both"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := AddCapture(t.Context(), pool, tc.spec)
			require.ErrorContains(t, err, tc.want)
		})
	}
	t.Run("a role without the right", func(t *testing.T) {
		t.Parallel()
		_, err := AddCapture(t.Context(), asRole(t, pool, newRole(t, pool)), CaptureSpec{Table: "orders"})
		require.ErrorContains(t, err, "run it as the owner of orders")
		require.Equal(t, 1, strings.Count(err.Error(), "the role lacks a right"), "advised once")
	})
	t.Run("before migrate", func(t *testing.T) {
		t.Parallel()
		bare := connectTest(t, testenv.Postgres(t))
		execSQL(t, bare, `create table orders (id int primary key)`)
		_, err := AddCapture(t.Context(), bare, CaptureSpec{Table: "orders"})
		require.ErrorContains(t, err, "run: observer migrate")
	})
}

func TestRemovingCaptureOfAPartitionNamesItsTable(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table part (id int primary key) partition by range (id); create table part_1 partition of part for values from (0) to (10)`, CaptureSpec{Table: "part"})
	require.ErrorContains(t, RemoveCapture(t.Context(), pool, "part_1"), "public.part_1 is captured through public.part: change or remove capture there")
}

func TestTablesThatInheritAreNamed(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	execSQL(t, pool, `create table base (id int primary key); create table heir () inherits (base)`)
	report, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "base"})
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Notes, " "), "Rows of the tables that inherit from it (public.heir) are not captured")
}

func TestTheSameCaptureAgainChangesNothingAndWaitsForNobody(t *testing.T) {
	t.Parallel()
	spec := CaptureSpec{Table: "orders", Exclude: []string{"s"}}
	pool := capturing(t, `create table orders (id bigint primary key, s text)`, spec)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	execSQL(t, tx, `lock table orders in row exclusive mode`)
	report, err := AddCapture(t.Context(), pool, spec)
	require.NoError(t, err)
	require.True(t, report.Unchanged)
}

func TestReplacingCaptureLetsReadersGoOn(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id bigint primary key, s text)`, CaptureSpec{Table: "orders"})
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	execSQL(t, tx, `select * from orders`)
	if queryOne[int](t, pool, `select current_setting('server_version_num')::integer`) >= 140000 {
		_, err = AddCapture(t.Context(), pool, CaptureSpec{Table: "orders", NoBefore: true, Replace: true})
		require.NoError(t, err, "only readers are there")
	}
	removed := make(chan error, 1)
	go func() { removed <- RemoveCapture(t.Context(), pool, "orders") }()
	waiting := func() error {
		if queryOne[int](t, pool, `select count(*) from pg_locks where not granted and relation = 'orders'::regclass`) == 0 {
			return errors.New("nobody waits")
		}
		return nil
	}
	testenv.Eventually(t, 5*time.Second, waiting)
	begun := time.Now()
	execSQL(t, pool, `select * from orders`)
	require.Less(t, time.Since(begun), 2*time.Second)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-removed)
}

// TestWhoMayNotReplaceOrRemoveIsToldToAskTheOwner: dropping a trigger takes more than making one.
func TestWhoMayNotReplaceOrRemoveIsToldToAskTheOwner(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id bigint primary key, s text)`, CaptureSpec{Table: "orders"})
	err := RemoveCapture(t.Context(), asRole(t, pool, newRole(t, pool)), "orders")
	require.ErrorContains(t, err, "(the role lacks a right: run it as the owner of orders)")
	require.NotContains(t, err.Error(), "--grant")
}

func TestCapturesAreListedUpdatedAndRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := capturing(t, `create table orders (id int primary key, s text, org text, n int generated always as (1) stored); create unlogged table p (id int) partition by list (id); create table p1 partition of p default`)
	report, err := AddCapture(ctx, pool, CaptureSpec{Table: "orders", Entity: "Order"})
	require.NoError(t, err)
	notes := strings.Join(report.Notes, " ")
	require.Contains(t, notes, "TRUNCATE")
	require.Contains(t, notes, "replica")
	require.Contains(t, notes, "Generated columns (n)")
	_, err = AddCapture(ctx, pool, CaptureSpec{Table: "p"})
	require.NoError(t, err)
	full := CaptureSpec{Table: "public.orders", Entity: "O", Key: []string{"id", "s"}, Exclude: []string{"org"}, NoBefore: true, Tenant: "org"}
	_, err = AddCapture(ctx, pool, full)
	require.ErrorContains(t, err, "public.orders is captured in another way already; it was made by: observer capture add public.orders --entity Order; to replace that definition add --replace")
	full.Replace = true
	_, err = AddCapture(ctx, pool, full)
	require.NoError(t, err)

	list, err := ListCaptures(ctx, pool)
	require.NoError(t, err)
	require.Equal(t, []Capture{
		{Definition: Definition{Table: "public.orders", Entity: "O", Key: full.Key, Columns: []string{}, Exclude: full.Exclude, NoBefore: true, Tenant: "org"}, State: CaptureOK},
		{Definition: Definition{Table: "public.p", Entity: "p", Key: []string{}, Columns: []string{}, Exclude: []string{}, DefaultKey: true}, Before: true, State: CaptureOK},
	}, list)
	_, err = json.Marshal(list)
	require.NoError(t, err)

	require.NoError(t, RemoveCapture(ctx, pool, "orders"))
	require.ErrorIs(t, RemoveCapture(ctx, pool, "orders"), ErrNotFound)
	execSQL(t, pool, `insert into orders values (1)`)
	require.Empty(t, logged(t, pool))
}

func TestTheWakeTriggerNotifiesOnlyWhileAReaderSleeps(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	ctx := t.Context()
	const channel = "it's a channel"
	require.NoError(t, EnsureWake(ctx, pool, channel, false))
	before := queryOne[uint32](t, pool, `select oid from pg_trigger where tgname like 'observer_wake%'`)
	require.NoError(t, EnsureWake(ctx, pool, channel, false))
	require.Equal(t, before, queryOne[uint32](t, pool, `select oid from pg_trigger where tgname like 'observer_wake%'`), "nothing changed")
	require.NoError(t, EnsureWake(ctx, pool, strings.Repeat("c", 63), false))
	require.ErrorContains(t, EnsureWake(ctx, pool, "", false), "1 to 63 bytes")

	ear, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer ear.Release()
	execSQL(t, ear.Conn(), `listen "it's a channel"`)
	emit := func() { execSQL(t, pool, `select core.emit_event('Order', '{}')`) }
	emit() // nobody sleeps
	_, err = ear.Exec(ctx, `select pg_advisory_lock(core.fn_observer_wake_key($1))`, channel)
	require.NoError(t, err)
	emit()
	n, err := ear.Conn().WaitForNotification(ctx)
	require.NoError(t, err)
	require.Equal(t, channel+" ", n.Channel+" "+n.Payload)
	_, err = ear.Exec(ctx, `select pg_advisory_unlock_all()`)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 50_000_000)
	defer cancel()
	_, err = ear.Conn().WaitForNotification(short)
	require.ErrorIs(t, err, context.DeadlineExceeded, "one notification in all")
}

func TestPreparedTransactionsWorkWhileAReaderSleepsUnlessForced(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "max_prepared_transactions=10")
	pool := connectTest(t, cluster.NewDatabase(t))
	require.NoError(t, Migrate(t.Context(), pool, discard))
	require.NoError(t, EnsureWake(t.Context(), pool, "ch", false))
	sleeper, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer sleeper.Release()
	execSQL(t, sleeper.Conn(), `select pg_advisory_lock(core.fn_observer_wake_key('ch'))`)
	prepare := func(name string) error {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		execSQL(t, conn.Conn(), `begin; select core.emit_event('Order', '{}')`)
		_, err = conn.Exec(t.Context(), `prepare transaction '`+name+`'`)
		return err
	}
	require.NoError(t, prepare("a"))
	execSQL(t, pool, `commit prepared 'a'`)
	require.Len(t, logged(t, pool), 1)

	require.NoError(t, EnsureWake(t.Context(), pool, "ch", true))
	require.ErrorContains(t, prepare("b"), "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY")
}
