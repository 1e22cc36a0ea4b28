package postgres

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// states lists what is told of every capture: "public.orders ok", or with the problem and the command.
func states(t *testing.T, db DB) []string {
	t.Helper()
	captures, err := ListCaptures(t.Context(), db)
	require.NoError(t, err)
	list := []string{}
	for _, c := range captures {
		line := c.Table + " " + string(c.State)
		if c.State != CaptureOK {
			line += ": " + c.Problem + "; run: " + c.Command
		}
		list = append(list, line)
	}
	return list
}

// TestMigrateRecordsWhatIsCapturedAlready makes the migration run again over captures as an older program made them.
func TestMigrateRecordsWhatIsCapturedAlready(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table a (id int primary key, v text); create table b (v text, w text); create table "C ""\'é" (x uuid, "y ""," int, z text, primary key (x, "y "","));
		create table d (id int) partition by list (id); create table d1 partition of d default`,
		CaptureSpec{Table: "a"}, CaptureSpec{Table: "b", Key: []string{"w"}, Tenant: "v"}, CaptureSpec{Table: `"C ""\'é"`, Entity: `it's "\é`, Exclude: []string{"z", `y ",`}}, CaptureSpec{Table: "d"})
	const registry = `select string_agg(e::text, E'\n' order by e.name) from core.tb_observer_capture e`
	recorded := queryOne[string](t, pool, registry)
	role := newRole(t, pool)
	require.NoError(t, GrantApp(t.Context(), pool, role))
	execSQL(t, pool, `truncate core.tb_observer_capture; delete from core.tb_observer_schema_version where version_id >= 8;
		revoke execute on function core.fn_observer_note_capture(oid, boolean), core.fn_observer_forget_capture(text) from `+pgx.Identifier{role}.Sanitize()+`;
		create table e (id int); create trigger "00_observer_capture" after insert on e for each row execute function core.fn_entity_change_log_capture('E', '{', '', '{}', 'true', '')`)
	require.NoError(t, Migrate(t.Context(), pool, discard))
	require.Equal(t, recorded, queryOne[string](t, pool, registry))
	require.True(t, queryOne[bool](t, pool, `select has_function_privilege($1, 'core.fn_observer_note_capture(oid, boolean)', 'execute')`, role), "who could capture can still")

	require.Contains(t, states(t, pool), `public.e drifted: the arguments of its trigger, which somebody made by hand, cannot be read; run: observer capture add public.e --entity E --replace`)
	require.NoError(t, typed(t, pool, `observer capture add public.e --entity E --replace`))
	require.Contains(t, states(t, pool), `public.e ok`)
	execSQL(t, pool, `alter table b rename w to w2`)
	require.Contains(t, states(t, pool), `public.b drifted: key column "w" is named "w2" now: changes become dead letters; run: observer capture add public.b --entity b --key w2 --tenant v --replace`)
}

// TestAColumnOfWhichNothingIsKnownStaysInTheCommand: it may have been renamed, and a command without it would let it out.
func TestAColumnOfWhichNothingIsKnownStaysInTheCommand(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int primary key, secret text)`, CaptureSpec{Table: "orders", Exclude: []string{"secret"}})
	execSQL(t, pool, `delete from core.tb_observer_capture; alter table orders rename secret to secret2; insert into orders values (1, 'S3CRET')`)
	list, err := ListCaptures(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, "observer capture add public.orders --entity orders --key id --exclude secret --replace", list[0].Command)
	require.ErrorContains(t, typed(t, pool, list[0].Command), `public.orders has no column "secret"; did you mean secret2?`)
	require.Zero(t, queryOne[int](t, pool, `select count(*) from core.tb_entity_change_log l where l::text like '%S3CRET%'`))
	require.Equal(t, 1, queryOne[int](t, pool, `select count(*) from core.tb_entity_change_log where object_key = '1' and extra_metadata ->> 'capture_error' like 'column secret, which capture needs,%'`))
}

// TestAMarkerRowHasNoKeyThatIsAnotherColumn: the excluded column takes the name of the key, which was dropped.
func TestAMarkerRowHasNoKeyThatIsAnotherColumn(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{"a row that converts": `{}`, "a row that does not": `"\u0000"`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := migratedDB(t)
			spec := CaptureSpec{Key: []string{"code"}, Exclude: []string{"secret"}}
			own := ownTable(t, pool, "code text, secret text, doc json", spec)
			execSQL(t, pool, `create table trusted (code text, secret text, doc json)`)
			spec.Table = "trusted"
			_, err := AddCapture(t.Context(), pool, spec)
			require.NoError(t, err)
			for table, db := range map[string]DB{"own.t": own, "trusted": pool} {
				execSQL(t, db, `alter table `+table+` drop column code; alter table `+table+` rename secret to code; insert into `+table+` (code, doc) values ('S3CRET', '`+doc+`')`)
			}
			require.Equal(t, 2, queryOne[int](t, pool, `select count(*) from core.tb_entity_change_log where extra_metadata is not null`))
			require.Zero(t, queryOne[int](t, pool, `select count(*) from core.tb_entity_change_log l where l::text like '%S3CRET%'`))
		})
	}
}

func TestWhatIsGoneIsToldUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	const captured = `create table orders (id int primary key, s text); create table lines (id int primary key)`
	const dropped = "public.orders missing: the table was dropped; run: observer capture remove public.orders"
	for name, tc := range map[string]struct {
		sql    string
		before []string
		remove string
		after  []string
	}{
		"a dropped table":     {`drop table orders`, []string{"public.lines ok", dropped}, "public.orders", []string{"public.lines ok"}},
		"without its schema":  {`drop table orders`, []string{"public.lines ok", dropped}, "orders", []string{"public.lines ok"}},
		"a view in its place": {`drop table orders; create view orders as select 1`, []string{"public.lines ok", dropped}, "orders", []string{"public.lines ok"}},
		"a removed capture":   {``, []string{"public.lines ok", "public.orders ok"}, "orders", []string{"public.lines ok"}},
		"another table instead": {`alter table orders rename to orders_old; create table orders (id int)`, []string{
			"public.lines ok", "public.orders_old ok",
			"public.orders missing: the captured table is public.orders_old now, and another one has its name: no change of that one is captured; run: observer capture add public.orders --entity orders --exclude s",
		}, "orders", []string{"public.lines ok", "public.orders_old ok"}},
		"another captured table instead": {`drop table orders; alter table lines rename to orders`, []string{"public.orders ok"}, "orders", []string{}},
		"a view over the renamed table":  {`alter table orders rename to orders_v1; create view orders as select * from orders_v1`, []string{"public.lines ok", "public.orders_v1 ok"}, "orders_v1", []string{"public.lines ok"}},
		"a dropped trigger": {`drop trigger "00_observer_capture" on orders`, []string{
			"public.lines ok", "public.orders missing: its trigger is gone: no change is captured; run: observer capture add public.orders --entity orders --exclude s",
		}, "orders", []string{"public.lines ok"}},
		"a dropped trigger of a renamed table": {`drop trigger "00_observer_capture" on orders; alter table orders rename to o`, []string{
			"public.lines ok", "public.o missing: its trigger is gone: no change is captured; run: observer capture add public.o --entity orders --exclude s",
		}, "orders", []string{"public.lines ok"}},
		"a part of a captured table now": {`drop trigger "00_observer_capture" on orders; drop trigger "00_observer_capture" on lines; drop table lines; create table lines (id int primary key, s text) partition by range (id)`, []string{
			"public.lines missing: the captured table is gone, and another one has its name: no change of that one is captured; run: observer capture add public.lines --entity lines",
			"public.orders missing: its trigger is gone: no change is captured; run: observer capture add public.orders --entity orders --exclude s",
		}, "lines", []string{"public.orders missing: its trigger is gone: no change is captured; run: observer capture add public.orders --entity orders --exclude s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := capturing(t, captured, CaptureSpec{Table: "orders", Exclude: []string{"s"}}, CaptureSpec{Table: "lines"})
			execSQL(t, pool, tc.sql)
			require.Equal(t, tc.before, states(t, pool))
			require.NoError(t, RemoveCapture(t.Context(), pool, tc.remove))
			require.Equal(t, tc.after, states(t, pool))
		})
	}
}

func TestAPartitionThatIsCapturedWithItsTableIsNoNews(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table p1 (id int primary key)`, CaptureSpec{Table: "p1"})
	execSQL(t, pool, `drop trigger "00_observer_capture" on p1; create table p (id int primary key) partition by range (id)`)
	_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "p"})
	require.NoError(t, err)
	execSQL(t, pool, `alter table p attach partition p1 default`)
	require.Equal(t, []string{"public.p ok"}, states(t, pool))
}

func TestATableOfAnotherOwnerIsTold(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int primary key)`, CaptureSpec{Table: "orders"})
	role := newRole(t, pool)
	execSQL(t, pool, `alter table orders owner to `+pgx.Identifier{role}.Sanitize())
	require.Equal(t, []string{"public.orders drifted: its owner may not act as the owner of observer's functions, which convert its rows; run: observer capture add public.orders --entity orders --replace"}, states(t, pool))
	require.NoError(t, typed(t, pool, "observer capture add public.orders --entity orders --replace"))
	require.Equal(t, []string{"public.orders ok"}, states(t, pool))
}

func TestAChosenKeyIsToldFromThePrimaryKey(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int primary key, code text not null)`, CaptureSpec{Table: "orders", Key: []string{"id"}})
	const other = `alter table orders drop constraint orders_pkey, add primary key (code)`
	execSQL(t, pool, other)
	require.Equal(t, []string{"public.orders ok"}, states(t, pool))
	report, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "orders", Key: []string{"id"}})
	require.NoError(t, err)
	require.True(t, report.Unchanged)

	execSQL(t, pool, `alter table orders drop constraint orders_pkey, add primary key (id)`)
	report, err = AddCapture(t.Context(), pool, CaptureSpec{Table: "orders"})
	require.NoError(t, err, "it logs the same")
	require.False(t, report.Unchanged)
	execSQL(t, pool, other)
	require.Equal(t, []string{"public.orders drifted: the primary key is (code) now: events keep the key of before; run: observer capture add public.orders --entity orders --replace"}, states(t, pool))
}

func TestAPrimaryKeyThatATableGetsLaterIsTold(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `create table orders (id int)`, CaptureSpec{Table: "orders"})
	execSQL(t, pool, `alter table orders add primary key (id)`)
	require.Equal(t, []string{"public.orders drifted: the primary key is (id) now: events keep the key of before; run: observer capture add public.orders --entity orders --replace"}, states(t, pool))
}

// TestARestoredDumpIsCapturedAsBefore: there the columns have other numbers, as one that was dropped leaves none.
func TestARestoredDumpIsCapturedAsBefore(t *testing.T) {
	t.Parallel()
	source, target := testenv.Postgres(t), testenv.Postgres(t)
	pool := connectTest(t, source)
	require.NoError(t, Migrate(t.Context(), pool, discard))
	execSQL(t, pool, `create table orders (gone int, id int primary key, secret text, note text); alter table orders drop column gone; create table gone (id int primary key); create table apart (id int primary key)`)
	for _, spec := range []CaptureSpec{{Table: "orders", Exclude: []string{"secret"}}, {Table: "gone"}, {Table: "apart"}} {
		_, err := AddCapture(t.Context(), pool, spec)
		require.NoError(t, err)
	}
	execSQL(t, pool, `drop table gone`)
	before := states(t, pool)
	dump := exec.CommandContext(t.Context(), testenv.Tool(t, "pg_dump"), "--dbname="+source, "--exclude-table=apart")
	restore := exec.CommandContext(t.Context(), testenv.Tool(t, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", target)
	text, err := dump.Output()
	require.NoError(t, err)
	restore.Stdin = strings.NewReader(string(text))
	out, err := restore.CombinedOutput()
	require.NoError(t, err, string(out))

	restored := connectTest(t, target)
	before[0] = "public.apart missing: the table was dropped; run: observer capture remove public.apart"
	require.Equal(t, before, states(t, restored))
	execSQL(t, restored, `insert into orders values (1, 'S3CRET', 'n')`)
	require.Equal(t, []string{`orders INSERT 1 - -> {"id": 1, "note": "n"}`}, logged(t, restored))

	require.NoError(t, SetCheckpoint(t.Context(), restored, "observer", "now"))
	require.Equal(t, before, states(t, restored))
	execSQL(t, restored, `alter table orders rename secret to spare; alter table orders rename note to secret; alter table orders rename spare to note; insert into orders values (2, 'S3CRET', 'n')`)
	require.NotContains(t, strings.Join(logged(t, restored), "\n"), "S3CRET", "columns are known by their numbers from then on")
	require.Contains(t, strings.Join(states(t, restored), "\n"), "public.orders drifted")
}

func TestAnIncludedNameIsNotLentToAnotherColumn(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"dropped, and another one renamed": `alter table a drop column note; alter table a rename secret to note`,
		"renamed, and another one renamed": `alter table a rename note to old; alter table a rename secret to note`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := capturing(t, `create table a (id int primary key, note text, secret text)`, CaptureSpec{Table: "a", Columns: []string{"id", "note"}})
			execSQL(t, pool, ddl+`; insert into a (id, note) values (1, 'S3CRET'); update a set note = 'S3CRET2'; delete from a`)
			require.NotContains(t, strings.Join(logged(t, pool), "\n"), "S3CRET")
			state := states(t, pool)[0]
			require.Contains(t, state, "public.a drifted")
			require.NotContains(t, state, "old,note")
		})
	}
}

// TestARowIsLoggedByTheCaptureOfItsOwnTable: a trigger that somebody disabled leaves what was converted for it.
func TestARowIsLoggedByTheCaptureOfItsOwnTable(t *testing.T) {
	t.Parallel()
	pool := capturing(t, `select 1`)
	own := ownTable(t, pool, "id int primary key, secret text", CaptureSpec{Exclude: []string{"secret"}})
	execSQL(t, own, `create table own.other (id int primary key)`)
	_, err := AddCapture(t.Context(), own, CaptureSpec{Table: "own.other"})
	require.NoError(t, err)
	execSQL(t, own, `alter table own.t disable trigger "`+captureTrigger+`"; alter table own.other disable trigger "`+convertTrigger+`";
		begin; insert into own.t values (1, 'S3CRET'); insert into own.other values (7); commit`)
	require.NotContains(t, strings.Join(logged(t, pool), "\n"), "S3CRET")
}

func TestARoleThatOwnsATableRecordsItsCaptureAndNoOther(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := capturing(t, `create table orders (id int primary key, secret text); create table lines (id int primary key)`, CaptureSpec{Table: "orders", Exclude: []string{"secret"}}, CaptureSpec{Table: "lines"})
	own := ownTable(t, pool, "id int primary key", CaptureSpec{})
	execSQL(t, pool, `alter table orders rename secret to secret2; drop table lines; grant select, insert, update, delete on orders to public`)
	before := states(t, pool)
	for name, forbidden := range map[string]string{
		"records a table of another": `select core.fn_observer_note_capture('orders'::regclass, false)`,
		"forgets a table of another": `select core.fn_observer_forget_capture('public.orders')`,
		"forgets a dropped table":    `select core.fn_observer_forget_capture('public.lines')`,
		"records around the check":   `select core.fn_observer_record_capture('orders'::regclass, false)`,
		"writes the table":           `delete from core.tb_observer_capture`,
		"asks what is no table":      `select core.fn_observer_note_capture(1::oid, false)`,
	} {
		_, err := own.Exec(ctx, forbidden)
		require.True(t, hasCode(err, codeNoRight), "%s: %v", name, err)
	}
	require.ErrorContains(t, RemoveCapture(ctx, own, "public.lines"), "the role lacks a right")
	require.Equal(t, before, states(t, pool))

	execSQL(t, own, `drop table own.t`)
	require.Contains(t, states(t, pool), "own.t missing: the table was dropped; run: observer capture remove own.t")
	require.NoError(t, RemoveCapture(ctx, own, "own.t"))
	require.Equal(t, before[1:], states(t, pool))
}
