package cmd

import (
	"net/url"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// databaseCommands are those that talk to the database, as short as they can be called.
var databaseCommands = map[string][]string{
	"migrate":           {"migrate"},
	"capture add":       {"capture", "add", "orders"},
	"capture list":      {"capture", "list"},
	"capture remove":    {"capture", "remove", "orders"},
	"checkpoint list":   {"checkpoint", "list"},
	"checkpoint set":    {"checkpoint", "set", "observer", "--to", "now"},
	"checkpoint remove": {"checkpoint", "remove", "observer"},
	"emit":              {"emit", "--entity", "Order", "--data", "{}"},
	"dlq list":          {"dlq", "list"},
	"dlq show":          {"dlq", "show", "1"},
	"dlq retry":         {"dlq", "retry", "1"},
	"dlq retry-all":     {"dlq", "retry-all", "--yes"},
	"dlq remove":        {"dlq", "remove", "1", "--yes"},
	"dlq remove all":    {"dlq", "remove", "--all", "--yes"},
	"dlq stats":         {"dlq", "stats"},
}

// fail calls every command but some; each must exit with 1, say what, and print nothing else.
func fail(t *testing.T, dsn, says string, except ...string) {
	t.Helper()
	cfg := configFor(t, dsn)
	for name, args := range databaseCommands {
		if slices.Contains(except, name) {
			continue
		}
		r := observer(t, "", slices.Concat(args, []string{"--config", cfg})...)
		require.Equal(t, exitRuntime, r.code, "%s: %s", name, r.err)
		require.Contains(t, r.err, says, name)
		require.NotContains(t, r.err, "s3cret", name)
		require.Empty(t, r.out, name)
	}
}

func changed(t *testing.T, dsn string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	change(u)
	return u.String()
}

func TestWhereNoServerAnswersTheCommandsEndAndSaySo(t *testing.T) {
	t.Parallel()
	fail(t, "postgres://u:s3cret@127.0.0.1:1/d?sslmode=disable", "the server does not answer: check host and port in transport.postgres.url")
}

func TestABrokenURLIsAMistakeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	for parameter, value := range map[string]string{"sslmode": "verify-ful", "pool_max_conns": "x", "connect_timeout": "abc", "sslrootcert": "/nowhere/ca.pem"} {
		cfg := configFor(t, "postgres://u:s3cret@127.0.0.1:1/d?"+parameter+"="+value)
		r := observer(t, "", "run", "--validate", "--config", cfg)
		require.Equal(t, exitUsage, r.code, "%s: %s", parameter, r.err)
		require.Contains(t, r.err, "transport.postgres.url: has no valid value for its parameter "+parameter)
		require.NotContains(t, r.err, "s3cret")
	}
}

func TestAServerThatStoppedEndsTheCommands(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t)
	dsn := cluster.NewDatabase(t)
	cluster.Stop(t, "fast")
	fail(t, dsn, "the server does not answer")
	cluster.Start(t) // its database is dropped when the test ends
}

func TestAWrongPasswordIsNamed(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t)
	right := cluster.RequirePassword(t, "careful", "s3cret")
	fail(t, changed(t, right, func(u *url.URL) { u.User = url.UserPassword("careful", "s3cret-not") }), "wrong user or password: correct transport.postgres.url")
	require.Contains(t, observer(t, "", "capture", "list", "--config", configFor(t, right)).err, "run: observer migrate", "the right one is let in")
}

func TestAMissingDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	fail(t, changed(t, testenv.Postgres(t), func(u *url.URL) { u.Path = "/nothing_here" }), "the database does not exist")
}

func TestMissingObjectsNameTheCommandThatMakesThem(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	run(t, connect(t, dsn), `create table orders (id int primary key)`)
	fail(t, dsn, "run: observer migrate", "migrate", "capture remove") // nothing is captured; migrate is the remedy
}

func TestAMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	_, db := database(t)
	run(t, db, `create table orders (id int primary key)`)
	name := "cmd_rights_" + one[string](t, db, `select current_database()::text`)
	role := pgx.Identifier{name}.Sanitize()
	run(t, db, `create role `+role+` login`)
	t.Cleanup(func() { dropRole(t, db, role) })
	dsn := changed(t, db.Config().ConnString(), func(u *url.URL) { u.User = url.User(name) })
	// Whoever may connect may list the triggers; what migrate and remove need is a right of another kind.
	fail(t, dsn, "the role lacks a right", "capture list", "capture remove")
	r := observer(t, "", "capture", "add", "orders", "--config", configFor(t, dsn))
	require.Contains(t, r.err, "grant trigger on orders to ROLE")
	require.Contains(t, observer(t, "", "migrate", "--down", "--yes", "--config", configFor(t, dsn)).err, "run it as the owner of the database objects")
	require.Contains(t, observer(t, "", "emit", "--entity", "Order", "--data", "{}", "--config", configFor(t, dsn)).err, "--grant-app ROLE")
}
