package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// ownTable is a pool of a role with a schema, and in it a captured table, of its own.
func ownTable(t *testing.T, pool *pgxpool.Pool, columns string, spec CaptureSpec) *pgxpool.Pool {
	t.Helper()
	role := newRole(t, pool)
	execSQL(t, pool, `create schema own authorization `+pgx.Identifier{role}.Sanitize())
	require.NoError(t, GrantApp(t.Context(), pool, role))
	own := asRole(t, pool, role)
	execSQL(t, own, `create table own.t (`+columns+`)`)
	spec.Table = "own.t"
	_, err := AddCapture(t.Context(), own, spec)
	require.NoError(t, err)
	return own
}

// TestACastOfACapturedColumnRunsWithTheWritersRights: to_jsonb runs casts to json that the owner of a type defines, and the
// capture function has rights that this owner has not.
func TestACastOfACapturedColumnRunsWithTheWritersRights(t *testing.T) {
	t.Parallel()
	const cast = `create type own.evil as enum ('x');
		create function own.tell(own.evil) returns json language sql as $$ select to_json(current_user::text) $$;
		create cast (own.evil as json) with function own.tell(own.evil)`
	pool := migratedDB(t)
	own := ownTable(t, pool, "id int primary key", CaptureSpec{})
	execSQL(t, own, cast+`; alter table own.t add column e own.evil; insert into own.t values (1, 'x')`)
	who := queryOne[string](t, own, `select current_user::text`)
	require.Equal(t, who, queryOne[string](t, pool, `select object_data ->> 'e' from core.tb_entity_change_log`), "a captured table's owner adds a column")

	execSQL(t, pool, `create schema fair; create table fair.list (id int primary key, es own.evil[]); insert into fair.list values (1, '{x}')`)
	_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "fair.list"})
	require.NoError(t, err)
	role := pgx.Identifier{who}.Sanitize()
	execSQL(t, pool, `grant usage on schema fair to `+role+`; grant select, update on fair.list to `+role)
	execSQL(t, own, `update fair.list set id = 2`)
	require.Equal(t, who, queryOne[string](t, pool, `select object_data -> 'es' ->> 0 from core.tb_entity_change_log where object_type = 'list'`), "a type of another owner in a trusted table")
}

func TestNobodyCapturesATableWithoutTheRight(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	role := newRole(t, pool)
	own := asRole(t, pool, role)
	execSQL(t, pool, `create schema own authorization `+pgx.Identifier{role}.Sanitize()+`; grant usage on schema core to public`)
	execSQL(t, own, `create table own.t (id int primary key)`)
	_, err := own.Exec(t.Context(), `create trigger x after insert on own.t for each row execute function core.fn_entity_change_log_capture('Order')`)
	require.ErrorContains(t, err, "permission denied for function")
	_, err = AddCapture(t.Context(), own, CaptureSpec{Table: "own.t"})
	require.ErrorContains(t, err, "observer migrate --grant-app ROLE")
	require.NoError(t, GrantApp(t.Context(), pool, role))
	_, err = own.Exec(t.Context(), `create trigger x after insert on own.t for each row execute function core.fn_entity_change_log_capture('Order')`)
	require.ErrorContains(t, err, "permission denied for function", "it would convert with its owner's rights")
	_, err = AddCapture(t.Context(), own, CaptureSpec{Table: "own.t"})
	require.NoError(t, err)
}

func TestCaptureWithTheWritersRightsLogsTheSame(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		columns string
		spec    CaptureSpec
		sql     string
		want    []string
	}{
		"insert, update, delete": {"id bigint primary key, s text", CaptureSpec{}, `insert into own.t values (9007199254740993, 'a'); update own.t set s = 'b'; delete from own.t`, []string{
			`t INSERT 9007199254740993 - -> {"s": "a", "id": 9007199254740993}`,
			`t UPDATE 9007199254740993 {"s": "a", "id": 9007199254740993} -> {"s": "b", "id": 9007199254740993}`,
			`t DELETE 9007199254740993 {"s": "b", "id": 9007199254740993} -> -`,
		}},
		"many rows each with its own image": {"id int primary key", CaptureSpec{}, `insert into own.t select generate_series(1, 3)`, []string{
			`t INSERT 1 - -> {"id": 1}`, `t INSERT 2 - -> {"id": 2}`, `t INSERT 3 - -> {"id": 3}`,
		}},
		"columns, composite key and no before": {"a int, b text, s text", CaptureSpec{Key: []string{"a", "b"}, Exclude: []string{"s"}, NoBefore: true}, `insert into own.t values (1, 'x', 'secret'); update own.t set a = 2`, []string{
			`t INSERT [1, "x"] - -> {"a": 1, "b": "x"}`, `t UPDATE [2, "x"] - -> {"a": 2, "b": "x"}`,
		}},
		"nothing while a mediator captures": {"id int primary key", CaptureSpec{}, `set fraiseql.cdc_mediated = 'on'; insert into own.t values (1); reset fraiseql.cdc_mediated; insert into own.t values (2)`, []string{`t INSERT 2 - -> {"id": 2}`}},
		"a marker row for what does not convert, and the rows around it": {"id int primary key, doc json", CaptureSpec{}, `insert into own.t values (1, '{}'), (2, '"\u0000"'), (3, '{}')`, []string{
			`t INSERT 1 - -> {"id": 1, "doc": {}}`,
			`t INSERT 2 - -> - {"capture_error": "unsupported Unicode escape sequence"}`,
			`t INSERT 3 - -> {"id": 3, "doc": {}}`,
		}},
		"a marker row with a composite key": {"a int, b text, doc json, primary key (a, b)", CaptureSpec{}, `insert into own.t values (1, 'x', '"\u0000"')`, []string{`t INSERT [1, "x"] - -> - {"capture_error": "unsupported Unicode escape sequence"}`}},
		"a marker row without a key":        {"doc json", CaptureSpec{}, `insert into own.t values ('"\u0000"')`, []string{`t INSERT - - -> - {"capture_error": "unsupported Unicode escape sequence"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := migratedDB(t)
			own := ownTable(t, pool, tc.columns, tc.spec)
			execSQL(t, own, `create function own.to_jsonb(anyelement) returns jsonb language plpgsql as 'begin raise exception ''trap''; end'`)
			execSQL(t, own, `set search_path = own, pg_catalog; `+tc.sql)
			require.Equal(t, tc.want, logged(t, pool))
		})
	}
}

// TestTheImagesDoNotStayWhereTheWriterFindsThem: who may update a row may not be allowed to read it.
func TestTheImagesDoNotStayWhereTheWriterFindsThem(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	own := ownTable(t, pool, "id int primary key, s text", CaptureSpec{})
	require.NoError(t, pgx.BeginFunc(t.Context(), own, func(tx pgx.Tx) error {
		execSQL(t, tx, `insert into own.t values (1, 'secret'); update own.t set s = 'x'`)
		require.Empty(t, queryOne[string](t, tx, `select current_setting('fraiseql.capture_after') || current_setting('fraiseql.capture_before')`))
		return nil
	}))
}

func TestCaptureOfAnotherOwnersTableIsReplacedAndRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := migratedDB(t)
	own := ownTable(t, pool, "id int primary key", CaptureSpec{Entity: "First"})
	report, err := AddCapture(ctx, own, CaptureSpec{Table: "own.t", Entity: "First"})
	require.NoError(t, err)
	require.True(t, report.Unchanged)
	_, err = AddCapture(ctx, own, CaptureSpec{Table: "own.t", Entity: "Second", Replace: true})
	require.NoError(t, err)
	list, err := ListCaptures(ctx, pool)
	require.NoError(t, err)
	require.Equal(t, []Capture{{
		Definition: Definition{Table: "own.t", Entity: "Second", Key: []string{"id"}, Columns: []string{}, Exclude: []string{}, DefaultKey: true}, Before: true, State: CaptureOK,
	}}, list)

	execSQL(t, pool, `alter table own.t owner to current_user`)
	_, err = AddCapture(ctx, pool, CaptureSpec{Table: "own.t", Entity: "Second"})
	require.NoError(t, err)
	require.Equal(t, 1, queryOne[int](t, pool, `select count(*) from pg_trigger where tgrelid = 'own.t'::regclass`), "a trusted owner's table needs one trigger")
	require.NoError(t, RemoveCapture(ctx, pool, "own.t"))
	require.Zero(t, queryOne[int](t, pool, `select count(*) from pg_trigger where tgrelid = 'own.t'::regclass`))
	require.NoError(t, MigrateDown(context.WithoutCancel(ctx), pool))
}
