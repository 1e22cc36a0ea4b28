package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

// attemptTime is enough for an attempt on a busy machine.
const attemptTime = 30 * time.Second

// shop is a database with the schema app, its table app.seen and the statements of the test.
func shop(t *testing.T, statements ...string) (url string, db *pgxpool.Pool) {
	t.Helper()
	url = testenv.Postgres(t)
	return url, fill(t, url, statements...)
}

func fill(t *testing.T, url string, statements ...string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	for _, statement := range append([]string{`create schema app`, `create table app.seen (n int generated always as identity, event jsonb, text text)`}, statements...) {
		_, err := db.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	return db
}

// onOrder is a function that writes down what it got.
const onOrder = `create function app.on_order(event jsonb) returns void language sql as $$ insert into app.seen (event) values (event) $$`

func sqlServers(t *testing.T, url string) *handlers.Servers {
	t.Helper()
	servers := handlers.NewServers(handlers.ServersConfig{Postgres: secret.String(url), Concurrency: 8})
	t.Cleanup(servers.Close)
	return servers
}

func sqlAction(t *testing.T, url, function string) handlers.Action {
	t.Helper()
	action, err := handlers.NewSQL(&handlers.SQLConfig{Function: function}, handlers.Env{Servers: sqlServers(t, url)})
	require.NoError(t, err)
	return action
}

// runSQL runs the action once, as the chain does: within a time.
func runSQL(t *testing.T, action handlers.Action, data string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), attemptTime)
	defer cancel()
	return action.Run(ctx, delivery(data))
}

func queryText(t *testing.T, db *pgxpool.Pool, query string, args ...any) string {
	t.Helper()
	var text *string
	require.NoError(t, db.QueryRow(t.Context(), query, args...).Scan(&text), query)
	if text == nil {
		return "null"
	}
	return *text
}

func requireSeen(t *testing.T, db *pgxpool.Pool, want int) {
	t.Helper()
	require.Equal(t, strconv.Itoa(want), queryText(t, db, `select count(*)::text from app.seen`))
}

func TestSQLCallsTheFunctionWithTheEvent(t *testing.T) {
	t.Parallel()
	url, db := shop(t, onOrder)
	require.NoError(t, runSQL(t, sqlAction(t, url, "app.on_order"), `{"id": 7, "price": 1.10}`))
	text := queryText(t, db, `select event::text from app.seen`)
	require.JSONEq(t, string(delivery(`{"id": 7, "price": 1.10}`).Event.JSON()), text)
	require.Contains(t, text, "1.10")
}

func TestSQLKeepsEveryByteOfTheRow(t *testing.T) {
	t.Parallel()
	url, db := shop(t, onOrder)
	row := map[string]string{
		"placeholder": `{{ data.secret }}`, "quotes": `' " '' "" $$ $1 \ \' \\u0000`, "injection": `'; drop table app.seen; --`, "mention": "<!channel> & <b>",
		"lines": "a\r\nb\tc", "unicode": "Ünïcode 😀 \ufeff\u2028", "": "no name", "a'b\"c": "key", "html": "</script>",
	}
	data, err := json.Marshal(row)
	require.NoError(t, err)
	broken := `"nul": "a\u0000b", "half": "\ud83d|\ude00", "pair": "\ud83d\ude00", "big": 9007199254740993, "decimal": 0.10000000000000000000000000000000001}`
	require.NoError(t, runSQL(t, sqlAction(t, url, "app.on_order"), strings.TrimSuffix(string(data), "}")+", "+broken))
	row["nul"], row["half"], row["pair"] = "a\ufffdb", "\ufffd|\ufffd", "😀"
	row["big"], row["decimal"] = "9007199254740993", "0.10000000000000000000000000000000001"
	for key, want := range row {
		require.Equal(t, want, queryText(t, db, `select event -> 'data' ->> $1 from app.seen`, key), key)
	}
}

func TestSQLTakesALargeEvent(t *testing.T) {
	t.Parallel()
	url, db := shop(t, onOrder)
	require.NoError(t, runSQL(t, sqlAction(t, url, "app.on_order"), `{"text": "`+strings.Repeat(`0123456\n`, 5<<20/8)+`\u0000"}`))
	require.Equal(t, strconv.Itoa(5<<20/8*7+5<<20/8+1), queryText(t, db, `select length(event -> 'data' ->> 'text')::text from app.seen`))
}

func TestSQLCallsEveryKindOfFunction(t *testing.T) {
	t.Parallel()
	url, db := shop(t)
	schemas := 0
	const note = `insert into seen (event) values ($1)`
	for name, create := range map[string]string{
		"void":                `(event jsonb) returns void language plpgsql as $$ begin ` + note + `; end $$`,
		"a value":             `(event jsonb) returns int language sql as $$ ` + note + ` returning 1 $$`,
		"no value":            `(event jsonb) returns text language sql as $$ ` + note + ` returning null $$`,
		"a set":               `(event jsonb) returns setof text language plpgsql as $$ begin ` + note + `; return query select repeat('x', 100) from generate_series(1, 100000); end $$`,
		"an empty set":        `(event jsonb) returns setof int language plpgsql as $$ begin ` + note + `; end $$`,
		"a table":             `(event jsonb) returns table (a int, b text) language plpgsql as $$ begin ` + note + `; return query select 1, 'x'; end $$`,
		"a record":            `(event jsonb) returns record language plpgsql as $$ begin ` + note + `; return (1, 2); end $$`,
		"a default":           `(event jsonb, again bool default true) returns void language plpgsql as $$ begin ` + note + `; end $$`,
		"any type":            `(event anyelement) returns void language plpgsql as $$ begin ` + note + `; end $$`,
		"a variable number":   `(variadic events jsonb[]) returns void language plpgsql as $$ begin insert into seen (event) values (events[1]); end $$`,
		"security of another": `(event jsonb) returns void language plpgsql security definer as $$ begin ` + note + `; end $$`,
	} {
		schemas++
		schema := "kind" + strconv.Itoa(schemas)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := db.Exec(t.Context(), fmt.Sprintf(`create schema %s; create table %[1]s.seen (event jsonb)`, schema))
			require.NoError(t, err)
			_, err = db.Exec(t.Context(), fmt.Sprintf(`set local search_path to %s; create function %[1]s.on_order%s; alter function %[1]s.on_order set search_path to %[1]s`, schema, create))
			require.NoError(t, err)
			action := sqlAction(t, url, schema+".on_order")
			checker, ok := action.(handlers.Checker)
			require.True(t, ok)
			detail, err := checker.Check(t.Context())
			require.NoError(t, err)
			require.Regexp(t, `^`+schema+`\.on_order\(.*\) is there$`, detail)
			seen := `select count(*)::text from ` + schema + `.seen`
			require.Equal(t, "0", queryText(t, db, seen), "the check ran nothing")
			require.NoError(t, runSQL(t, action, `{}`))
			require.Equal(t, "1", queryText(t, db, seen))
		})
	}
}

func TestSQLFindsFunctionsOfAnyName(t *testing.T) {
	t.Parallel()
	url, db := shop(t)
	for written, quoted := range map[string]string{
		`App.On_Order`:                       `app.on_order`,
		`app.on_order$2`:                     `app.on_order$2`,
		`_a1.select`:                         `_a1."select"`,
		`order.select`:                       `"order"."select"`,
		`"App"."On Order"`:                   `"App"."On Order"`,
		`"app"."a.b"`:                        `app."a.b"`,
		`"sch""ema"."x(); drop table y; --"`: `"sch""ema"."x(); drop table y; --"`,
		`"größe"."注文 😀"`:                     `"größe"."注文 😀"`,
		`app."$1"`:                           `app."$1"`,
		`"app"."` + strings.Repeat("x", 63) + `"`: `app.` + strings.Repeat("x", 63),
	} {
		t.Run(written, func(t *testing.T) {
			t.Parallel()
			schema := quoted[:strings.LastIndex(strings.Split(quoted, "(")[0], ".")]
			if written == `"app"."a.b"` {
				schema = "app"
			}
			for _, statement := range []string{
				`create schema if not exists ` + schema,
				`create function ` + quoted + `(event jsonb) returns void language sql as $$ insert into app.seen (event) values (event) $$`,
			} {
				_, err := db.Exec(t.Context(), statement)
				require.NoError(t, err)
			}
			action := sqlAction(t, url, written)
			checker, ok := action.(handlers.Checker)
			require.True(t, ok)
			detail, err := checker.Check(t.Context())
			require.NoError(t, err)
			require.Equal(t, written+"(jsonb) is there", detail)
			require.NoError(t, runSQL(t, action, `{"name": `+strconv.Quote(written)+`}`))
			require.Equal(t, "1", queryText(t, db, `select count(*)::text from app.seen where event -> 'data' ->> 'name' = $1`, written))
		})
	}
}

func TestSQLUsesTheDatabaseOfURLEnv(t *testing.T) {
	url, db := shop(t, onOrder)
	other, otherDB := shop(t, onOrder)
	t.Setenv("OTHER_URL", other)
	for name, servers := range map[string]*handlers.Servers{"beside the transport's": sqlServers(t, url), "without one": sqlServers(t, "")} {
		action, err := handlers.NewSQL(&handlers.SQLConfig{Function: "app.on_order", URLEnv: "OTHER_URL"}, handlers.Env{Servers: servers})
		require.NoError(t, err, name)
		require.NoError(t, runSQL(t, action, `{}`), name)
	}
	requireSeen(t, db, 0)
	requireSeen(t, otherDB, 2)
}

func TestSQLConfigErrorsNameTheirKey(t *testing.T) {
	t.Setenv("NO_URL", "postgres://ada:hunter2@host:notaport/db")
	t.Setenv("WORDS", "hunter2")
	t.Setenv("EMPTY", "")
	const open = "postgres://ada:hunter2@host/db"
	for name, tc := range map[string]struct {
		function, urlEnv, transport string
		key, want                   string
	}{
		"no name":                    {"", "", open, "function", "write schema.name, such as app.on_order"},
		"no schema":                  {"on_order", "", open, "function", "is no name of a function with its schema"},
		"three names":                {"db.app.on_order", "", open, "function", "write schema.name"},
		"with arguments":             {"app.on_order(event jsonb)", "", open, "function", "write schema.name"},
		"code":                       {"app.x(); drop table y; --", "", open, "function", "write schema.name"},
		"code after a line":          {"app.x\n;select 1", "", open, "function", "write schema.name"},
		"a line end":                 {"app.x\n", "", open, "function", "write schema.name"},
		"spaces":                     {"app . x", "", open, "function", "write schema.name"},
		"an empty name":              {`app.""`, "", open, "function", "write schema.name"},
		"an open quote":              {`app."x`, "", open, "function", "write schema.name"},
		"a quote within":             {`app."x"y"`, "", open, "function", "write schema.name"},
		"NUL":                        {"app.\"x\x00y\"", "", open, "function", "write schema.name"},
		"letters that need quotes":   {"app.größe", "", open, "function", "write schema.name"},
		"a digit first":              {"app.1x", "", open, "function", "write schema.name"},
		"a name that is cut off":     {"app." + strings.Repeat("x", 64), "", open, "function", "more than 63 bytes"},
		"a variable that is not set": {"app.x", "EMPTY", open, "url_env", "EMPTY is not set"},
		"a variable without a URL":   {"app.x", "NO_URL", open, "url_env", "NO_URL holds no URL"},
		"a variable with words":      {"app.x", "WORDS", open, "url_env", "WORDS holds no URL"},
		"no database at all":         {"app.x", "", "", "url_env", "set url_env to the name of a variable"},
		"a transport without a URL":  {"app.x", "", "postgres://ada:hunter2@host:notaport/db", "url_env", "[transport.postgres]"},
	} {
		_, err := handlers.NewSQL(&handlers.SQLConfig{Function: tc.function, URLEnv: tc.urlEnv}, handlers.Env{Servers: sqlServers(t, tc.transport)})
		list := handlers.KeyErrors(err)
		require.Len(t, list, 1, name)
		require.Equal(t, tc.key, list[0].Key, name)
		require.Contains(t, err.Error(), tc.want, name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
	_, err := handlers.NewSQL(&handlers.SQLConfig{Function: "x", URLEnv: "EMPTY"}, handlers.Env{Servers: sqlServers(t, "")})
	require.Len(t, handlers.KeyErrors(err), 2, "all problems come at once")
	_, err = handlers.NewSQL(&handlers.SQLConfig{Function: "app.x"}, handlers.Env{})
	require.EqualError(t, err, "build action: no servers are given")
}

func TestSQLPreviewShowsTheCall(t *testing.T) {
	t.Setenv("OTHER_URL", "postgres://ada:hunter2@db.internal:6432/shop?sslmode=disable")
	env := handlers.Env{Servers: sqlServers(t, "")}
	for hidden, request := range map[bool]string{false: "select app.on_order($1::jsonb)", true: "select ***($1::jsonb)"} {
		env.Hidden = func(key string) bool { return hidden && key == "function" }
		action, err := handlers.NewSQL(&handlers.SQLConfig{Function: "app.on_order", URLEnv: "OTHER_URL"}, env)
		require.NoError(t, err)
		previewer, ok := action.(handlers.Previewer)
		require.True(t, ok)
		d := delivery(`{"s": "\u0000"}`)
		preview, err := previewer.Preview(d)
		require.NoError(t, err)
		require.Equal(t, handlers.Preview{
			Request: request, Fields: []handlers.PreviewField{{Name: "Database", Value: "db.internal/shop"}},
			Body: strings.ReplaceAll(string(d.Event.JSON()), `\u0000`, `\ufffd`),
		}, preview)
	}
}

func TestSQLErrorRollsBackWhatTheFunctionWrote(t *testing.T) {
	t.Parallel()
	url, db := shop(t,
		`create function app.raise(event jsonb) returns void language plpgsql as $$ begin insert into app.seen (event) values (event); raise exception 'no stock' using detail = 'row s3cret'; end $$`,
		`create table app.once (id text unique deferrable initially deferred)`,
		`create function app.late(event jsonb) returns void language sql as $$ insert into app.seen (event) values (event); insert into app.once values ('s3cret'), ('s3cret') $$`,
	)
	err := runSQL(t, sqlAction(t, url, "app.raise"), `{}`)
	require.EqualError(t, err, "call app.raise: no stock (SQLSTATE P0001)")
	require.False(t, event.IsPermanent(err))
	require.Equal(t, "sqlstate_P0001", event.Class(err))

	err = runSQL(t, sqlAction(t, url, "app.late"), `{}`)
	require.ErrorContains(t, err, "SQLSTATE 23505", "the commit fails")
	require.NotContains(t, err.Error(), "s3cret")
	require.True(t, event.IsPermanent(err))
	requireSeen(t, db, 0)
}

func TestSQLOutcomeOfEachSQLState(t *testing.T) {
	t.Parallel()
	url, db := shop(t, `create function app.fail(event jsonb) returns void language plpgsql as $$
		begin
			insert into app.seen (event) values (event);
			raise exception 'it fails' using errcode = event -> 'data' ->> 'code', detail = 's3cret', hint = 's3cret';
		end $$`)
	action := sqlAction(t, url, "app.fail")
	for code, permanent := range map[string]bool{
		"08006": false, "40001": false, "40P01": false, "53100": false, "53200": false, "53300": false, "25P03": false, "25P04": false, "55P03": false, "57014": false,
		"57P01": false, "58030": false, "XX000": false, "XX001": false, "P0001": false, "MY001": false, "HV000": false,
		"0A000": true, "21000": true, "22001": true, "22P02": true, "23502": true, "23505": true, "23514": true, "25006": true, "2F005": true,
		"38000": true, "39004": true, "3F000": true, "42501": true, "42883": true, "42P01": true, "44000": true, "54001": true, "P0002": true, "P0004": true,
	} {
		err := runSQL(t, action, `{"code": "`+code+`"}`)
		require.EqualError(t, err, "call app.fail: it fails (SQLSTATE "+code+")")
		require.Equal(t, "sqlstate_"+code, event.Class(err), code)
		require.Equal(t, permanent, event.IsPermanent(err), code)
	}
	requireSeen(t, db, 0)
}

func TestSQLOutcomeOfRealErrors(t *testing.T) {
	t.Parallel()
	url, db := shop(t,
		`create function app.divide(event jsonb) returns int language sql as $$ insert into app.seen (event) values (event); select 1 / (event->>'seq' = '4')::int $$`,
		`create function app.cast(event jsonb) returns int language sql as $$ select (event->'data'->>'n')::int $$`,
		`create function app.write_in_vain(event jsonb) returns void language plpgsql as $$ begin set local transaction_read_only = on; insert into app.seen (event) values (event); end $$`,
		`create function app.calls_none(event jsonb) returns void language plpgsql as $$ begin perform app.none(); end $$`,
		`create function app.dies(event jsonb) returns void language plpgsql as $$ begin insert into app.seen (event) values (event); perform pg_terminate_backend(pg_backend_pid()); end $$`,
		`create function app.die() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$`,
		`create table app.deadly (n int)`,
		`create constraint trigger die after insert on app.deadly deferrable initially deferred for each row execute function app.die()`,
		`create function app.dies_late(event jsonb) returns void language sql as $$ insert into app.seen (event) values (event); insert into app.deadly values (1) $$`,
		`create procedure app.procedure(event jsonb) language sql as $$ select 1 $$`,
	)
	for function, tc := range map[string]struct {
		class     string
		permanent bool
	}{
		"app.divide":        {"sqlstate_22012", true},
		"app.cast":          {"sqlstate_22P02", true},
		"app.write_in_vain": {"sqlstate_25006", true},
		"app.calls_none":    {"sqlstate_42883", true},
		"app.none":          {"sqlstate_42883", true},
		"app.procedure":     {"sqlstate_42809", true},
		"none.on_order":     {"sqlstate_3F000", true},
		"app.dies":          {"sqlstate_57P01", false},
		"app.dies_late":     {"sqlstate_57P01", false},
	} {
		err := runSQL(t, sqlAction(t, url, function), `{"n": "x"}`)
		require.Error(t, err, function)
		require.Equal(t, tc.class, event.Class(err), function)
		require.Equal(t, tc.permanent, event.IsPermanent(err), function)
	}
	requireSeen(t, db, 0)
}

// waitForLock waits until a function waits for a lock.
func waitForLock(t *testing.T, db *pgxpool.Pool, function string) {
	t.Helper()
	testenv.Eventually(t, attemptTime, func() error {
		if n := queryText(t, db, `select count(*)::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%'||$1||'%' and pid <> pg_backend_pid()`, function); n != "1" {
			return fmt.Errorf("%s functions wait for a lock", n)
		}
		return nil
	})
}

func TestSQLConflictsAreTransient(t *testing.T) {
	t.Parallel()
	statements := []string{
		`create table app.stock (id int primary key, n int)`, `insert into app.stock values (1, 0), (2, 0)`,
		`create function app.take(event jsonb) returns void language sql as $$
			insert into app.seen (event) values (event); update app.stock set n = n + 1 where id = 1; update app.stock set n = n + 1 where id = 2 $$`,
	}
	for class, tc := range map[string]struct{ setting, first, second string }{
		"sqlstate_40001": {`default_transaction_isolation to 'repeatable read'`, `update app.stock set n = 5 where id = 2`, `commit`},
		"sqlstate_40P01": {`deadlock_timeout to '4s'`, `update app.stock set n = 5 where id = 2`, `update app.stock set n = 5 where id = 1`},
		"sqlstate_55P03": {`lock_timeout to '100ms'`, `update app.stock set n = 5 where id = 2`, ``},
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			url, db := shop(t, statements...)
			_, err := db.Exec(t.Context(), `alter database `+queryText(t, db, `select current_database()`)+` set `+tc.setting)
			require.NoError(t, err)
			tx, err := db.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it may have ended
			_, err = tx.Exec(t.Context(), `set local deadlock_timeout = '1h'; `+tc.first)
			require.NoError(t, err)
			result := make(chan error, 1)
			action := sqlAction(t, url, "app.take")
			go func() { result <- runSQL(t, action, `{}`) }()
			if tc.second != "" {
				waitForLock(t, db, "take")
				_, err = tx.Exec(t.Context(), tc.second)
				require.NoError(t, err)
			}
			err = <-result
			require.Equal(t, class, event.Class(err))
			require.False(t, event.IsPermanent(err))
			requireSeen(t, db, 0)
		})
	}
}

// withUser returns url for another role.
func withUser(t *testing.T, raw string, user *url.Userinfo) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.User = user
	return u.String()
}

func TestSQLNeedsTheRightToCall(t *testing.T) {
	t.Parallel()
	target, db := shop(t, onOrder, `drop role if exists "sql caller"`, `create role "sql caller" login`, `revoke execute on function app.on_order from public`)
	action := sqlAction(t, withUser(t, target, url.User("sql caller")), "app.on_order")
	checker, ok := action.(handlers.Checker)
	require.True(t, ok)
	for _, right := range []string{`usage on schema app to "sql caller"`, `execute on function app.on_order(jsonb) to "sql caller"`} {
		_, err := checker.Check(t.Context())
		require.ErrorContains(t, err, "let its owner run: grant ")
		require.Equal(t, strings.ReplaceAll(right, `schema app`, `schema "app"`), strings.TrimSuffix(strings.SplitAfterN(err.Error(), "run: grant ", 2)[1], ")"))
		err = runSQL(t, action, `{}`)
		require.Equal(t, "sqlstate_42501", event.Class(err))
		require.True(t, event.IsPermanent(err))
		_, err = db.Exec(t.Context(), `grant `+right)
		require.NoError(t, err)
	}
	detail, err := checker.Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, "app.on_order(jsonb) is there", detail)
	err = runSQL(t, action, `{}`)
	require.ErrorContains(t, err, "permission denied for table seen (SQLSTATE 42501)")
}

func TestSQLCheckSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	target, _ := shop(t, `create function app.takes_json(event json) returns void language sql as ''`, `create procedure app.procedure(event jsonb) language sql as ''`)
	for function, want := range map[string]string{
		"app.none":         `function app.none(jsonb) does not exist (SQLSTATE 42883) (write: create function app.none(event jsonb) returns void …)`,
		"app.takes_json":   `(write: create function app.takes_json(event jsonb) returns void …)`,
		"none.on_order":    `(write: create schema "none"; create function none.on_order(event jsonb) returns void …)`,
		"app.procedure":    `(make it a function: create function app.procedure(event jsonb) returns void …)`,
		`app."drop it; x"`: `(write: create function app."drop it; x"(event jsonb) returns void …)`,
	} {
		checker, ok := sqlAction(t, target, function).(handlers.Checker)
		require.True(t, ok)
		_, err := checker.Check(t.Context())
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "look for "+function+"(jsonb) in 127.0.0.1/test_")
	}
}

func TestSQLOutlivesItsServer(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "fsync = off")
	locked := cluster.RequirePassword(t, "worker", "right")
	db := fill(t, cluster.URL(), onOrder, `grant usage on schema app to worker`, `grant insert on app.seen to worker`)
	action := sqlAction(t, locked, "app.on_order")
	require.NoError(t, runSQL(t, action, `{}`))
	for _, mode := range []string{"fast", "immediate"} {
		cluster.Stop(t, mode)
		for range 3 {
			err := runSQL(t, action, `{}`)
			require.Error(t, err)
			require.False(t, event.IsPermanent(err), "%v", err)
			require.NotContains(t, err.Error(), "worker")
		}
		err := runSQL(t, sqlAction(t, locked, "app.on_order"), `{}`)
		require.Equal(t, "refused", event.Class(err))
		require.ErrorContains(t, err, "connection refused")
		cluster.Start(t)
		testenv.Eventually(t, attemptTime, func() error { return runSQL(t, action, `{}`) })
	}
	db.Reset()
	requireSeen(t, db, 3)

	for name, tc := range map[string]struct{ url, class string }{
		"wrong password":  {withUser(t, locked, url.UserPassword("worker", "hunter2")), "auth"},
		"no database":     {strings.Replace(locked, "/postgres?", "/none?", 1), "database"},
		"no such setting": {locked + "&nosuch=1", "sqlstate_42704"},
		"no host":         {"postgres://worker:hunter2@nowhere.invalid/db", "dns"},
		"no TLS":          {strings.Replace(locked, "sslmode=disable", "sslmode=require", 1), "network"},
	} {
		action := sqlAction(t, tc.url, "app.on_order")
		err := runSQL(t, action, `{}`)
		require.Equal(t, tc.class, event.Class(err), name)
		require.False(t, event.IsPermanent(err), name)
		require.NotContains(t, err.Error(), "hunter2", name)
		checker, ok := action.(handlers.Checker)
		require.True(t, ok)
		_, err = checker.Check(t.Context())
		require.ErrorContains(t, err, "look for app.on_order(jsonb) in ", name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
}

func TestSQLWritesWhereTheDefaultIsReadOnly(t *testing.T) {
	t.Parallel()
	url, db := shop(t, onOrder)
	_, err := db.Exec(t.Context(), `alter database `+queryText(t, db, `select current_database()`)+` set default_transaction_read_only to on`)
	require.NoError(t, err)
	require.NoError(t, runSQL(t, sqlAction(t, url, "app.on_order"), `{}`))
}

// standby is a server that answers every query as a hot standby answers begin read write, and returns its URL. A real one takes a
// second cluster, and testenv starts none.
func standby(t *testing.T) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			clients.Go(func() { refuseQueries(conn) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		clients.Wait()
	})
	return "postgres://postgres@" + listener.Addr().String() + "/db?sslmode=disable"
}

func refuseQueries(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for {
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := backend.Flush(); err != nil {
			return
		}
		if _, err := backend.Receive(); err != nil {
			return
		}
		backend.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "0A000", Message: "cannot set transaction read-write mode during recovery"})
	}
}

func TestSQLOfAStandbyIsTransient(t *testing.T) {
	t.Parallel()
	action := sqlAction(t, standby(t), "app.on_order")
	err := runSQL(t, action, `{}`)
	require.EqualError(t, err, "call app.on_order: cannot set transaction read-write mode during recovery (SQLSTATE 0A000)")
	require.Equal(t, "sqlstate_0A000", event.Class(err))
	require.False(t, event.IsPermanent(err), "no event is at fault before its function is called")
	checker, ok := action.(handlers.Checker)
	require.True(t, ok)
	_, err = checker.Check(t.Context())
	require.ErrorContains(t, err, "during recovery")
}

// enters is what a function does first whose test waits until it runs. A query that is active may not have come so far, and
// what cancels it before that is lost: Postgres takes it for late.
const enters = `pg_advisory_xact_lock_shared(7)`

// entered reports that no function of the test has come so far.
func entered(t *testing.T, db *pgxpool.Pool) error {
	t.Helper()
	if n := queryText(t, db, `select count(*)::text from pg_locks where locktype = 'advisory' and objid = 7 and granted
		and database = (select oid from pg_database where datname = current_database())`); n == "0" {
		return errors.New("it does not run yet")
	}
	return nil
}

// hanging is the number of functions under way on the server, or of commits that run one.
func hanging(t *testing.T, db *pgxpool.Pool) error {
	t.Helper()
	if n := queryText(t, db, `select count(*)::text from pg_stat_activity where datname = current_database() and state <> 'idle' and (query like '%"app".%' or query = 'commit') and pid <> pg_backend_pid()`); n != "0" {
		return fmt.Errorf("%s functions run", n)
	}
	return nil
}

func TestSQLStopsTheServerToo(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(t *testing.T, url string) string{
		"directly":        func(_ *testing.T, url string) string { return url },
		"through a proxy": func(t *testing.T, url string) string { t.Helper(); return testenv.PgBouncer(t, url) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, db := shop(t,
				`create function app.hang(event jsonb) returns void language plpgsql as $$ begin perform `+enters+`; insert into app.seen (event) values (event); perform pg_sleep(600); end $$`,
				`create function app.wait(event jsonb) returns void language plpgsql as $$ begin perform `+enters+`; insert into app.seen (event) values (event); perform pg_advisory_lock(42); end $$`,
				`create function app.loop(event jsonb) returns void language plpgsql as $$ begin perform `+enters+`; loop null; end loop; end $$`,
				`create function app.rows(event jsonb) returns setof int language sql rows 1 as $$ select `+enters+`; select generate_series(1, 2000000000) $$`,
				`create function app.late() returns trigger language plpgsql as $$ begin perform `+enters+`; perform pg_sleep(600); return null; end $$`,
				`create table app.slow (n int)`,
				`create constraint trigger late after insert on app.slow deferrable initially deferred for each row execute function app.late()`,
				`create function app.commits_late(event jsonb) returns void language sql as $$ insert into app.slow values (1) $$`,
			)
			holder, err := db.Acquire(t.Context())
			require.NoError(t, err)
			t.Cleanup(holder.Release)
			_, err = holder.Exec(t.Context(), `select pg_advisory_lock(42)`)
			require.NoError(t, err)

			url := through(t, target)
			for _, function := range []string{"app.hang", "app.wait", "app.loop", "app.rows", "app.commits_late"} {
				action := sqlAction(t, url, function)
				checker, ok := action.(handlers.Checker)
				require.True(t, ok)
				_, err := checker.Check(t.Context()) // connects, so that the time below is the function's
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				began := time.Now()
				err = action.Run(ctx, delivery(`{}`))
				cancel()
				require.Less(t, time.Since(began), attemptTime, function)
				require.EqualError(t, err, "call "+function+": no result in time")
				require.Equal(t, "timeout", event.Class(err))
				require.False(t, event.IsPermanent(err))
				testenv.Eventually(t, attemptTime, func() error { return hanging(t, db) })

				ctx, cancel = context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- action.Run(ctx, delivery(`{}`)) }()
				testenv.Eventually(t, attemptTime, func() error { return entered(t, db) })
				cancel()
				require.ErrorIs(t, <-ended, context.Canceled, function)
				testenv.Eventually(t, attemptTime, func() error { return hanging(t, db) })
			}
			requireSeen(t, db, 0)
		})
	}
}

func TestSQLReturnsWhenTheFunctionIsOver(t *testing.T) {
	t.Parallel()
	url, db := shop(t, `create function app.hang(event jsonb) returns void language sql as $$ select pg_sleep(600) $$`)
	action := sqlAction(t, url, "app.hang")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := action.Run(ctx, delivery(`{}`))
	require.EqualError(t, err, "call app.hang: no result in time")
	require.Equal(t, "timeout", event.Class(err))
	require.NoError(t, ctx.Err(), "the server's time-out came first")
	require.NoError(t, hanging(t, db), "the next attempt cannot meet this one")
	require.Equal(t, "1", queryText(t, db, `select count(*)::text from pg_stat_activity where datname = current_database() and application_name = 'observer'`), "the connection lives on")
}

func TestSQLServerEndsAFunctionWhoseCallerIsGone(t *testing.T) {
	t.Parallel()
	target, db := shop(t, `create function app.note(event jsonb) returns void language plpgsql as $$
		begin perform pg_sleep(0.3); insert into app.seen (text) values (current_setting('statement_timeout')); end $$`)
	_, err := db.Exec(t.Context(), `alter database `+queryText(t, db, `select current_database()`)+` set statement_timeout to '100ms'`)
	require.NoError(t, err)
	for _, url := range []string{target, testenv.PgBouncer(t, target)} {
		action := sqlAction(t, url, "app.note")
		require.NoError(t, runSQL(t, action, `{}`), "the attempt's time replaces the role's")
		_, err = db.Exec(t.Context(), `set statement_timeout = 0; update app.seen set text = text || 'ms' where text !~ 's$'`)
		require.NoError(t, err)
		require.Equal(t, "true", queryText(t, db, `select (text::interval between interval '20 s' and interval '29 s')::text from app.seen order by n desc limit 1`))

		err = action.Run(t.Context(), delivery(`{}`))
		require.Equal(t, "sqlstate_57014", event.Class(err), "no time given: the role's holds again, nothing is left in the session")
		require.False(t, event.IsPermanent(err))
	}
	require.Equal(t, "2", queryText(t, db, `select count(*)::text from app.seen`))
}

func TestSQLWaitsForAConnectionNoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	url, db := shop(t, onOrder, `create function app.hang(event jsonb) returns void language plpgsql as $$ begin perform `+enters+`; perform pg_sleep(600); end $$`)
	servers := sqlServers(t, url+"&pool_max_conns=1")
	actions := map[string]handlers.Action{}
	for _, function := range []string{"app.hang", "app.on_order"} {
		action, err := handlers.NewSQL(&handlers.SQLConfig{Function: function}, handlers.Env{Servers: servers})
		require.NoError(t, err)
		actions[function] = action
	}
	hang, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- actions["app.hang"].Run(hang, delivery(`{}`)) }()
	testenv.Eventually(t, attemptTime, func() error { return entered(t, db) })
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	err := actions["app.on_order"].Run(ctx, delivery(`{}`))
	require.EqualError(t, err, "call app.on_order: no connection in time")
	require.Equal(t, "timeout", event.Class(err))
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.NoError(t, runSQL(t, actions["app.on_order"], `{}`))
}

func TestSQLRunsInParallel(t *testing.T) {
	t.Parallel()
	target, db := shop(t, onOrder)
	for _, url := range []string{target, testenv.PgBouncer(t, target)} {
		action := sqlAction(t, url, "app.on_order")
		var all sync.WaitGroup
		failed := make(chan error, 200)
		for range 20 {
			all.Go(func() {
				for range 10 {
					if err := runSQL(t, action, `{"s": "\u0000"}`); err != nil {
						failed <- err
					}
				}
			})
		}
		all.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
	}
	requireSeen(t, db, 400)
	require.Equal(t, "observer", queryText(t, db, `select distinct application_name from pg_stat_activity where datname = current_database() and application_name <> ''`))
}
