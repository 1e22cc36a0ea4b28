package testenv_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/testenv"
)

func connect(t *testing.T, target string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func ask(t *testing.T, target, query string) string {
	t.Helper()
	var answer string
	require.NoError(t, connect(t, target).QueryRow(t.Context(), query).Scan(&answer))
	return answer
}

func TestPostgresGivesEachTestAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	first, second := testenv.Postgres(t), testenv.Postgres(t)
	require.NotEqual(t, first, second)

	_, err := connect(t, first).Exec(t.Context(), "create table orders (id bigint)")
	require.NoError(t, err)

	require.Equal(t, "0", ask(t, second, "select count(*)::text from pg_tables where schemaname = 'public'"))
}

func TestPostgresDropsTheDatabaseWithTheTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("a test with a connection left open", func(t *testing.T) {
		target := testenv.Postgres(t)
		_, err := connect(t, target).Exec(t.Context(), "select 1")
		require.NoError(t, err)
		name = ask(t, target, "select current_database()")
	})
	target := testenv.Postgres(t)
	require.Equal(t, "0", ask(t, target, "select count(*)::text from pg_database where datname = '"+name+"'"))
}

func TestClusterKeepsItsDataThroughStopAndStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ mode, state string }{
		"fast writes a checkpoint":             {mode: "fast", state: "shut down"},
		"immediate leaves recovery to restart": {mode: "immediate", state: "in production"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testenv.PostgresCluster(t, "max_prepared_transactions=7")
			target := cluster.NewDatabase(t)
			_, err := connect(t, target).Exec(t.Context(), "create table orders as select 1 as id")
			require.NoError(t, err)

			cluster.Stop(t, test.mode)
			_, err = pgx.Connect(t.Context(), target)
			require.Error(t, err)
			state, err := exec.CommandContext(t.Context(), testenv.Tool(t, "pg_controldata"), cluster.DataDir()).Output()
			require.NoError(t, err)
			require.Regexp(t, `cluster state: +`+test.state, string(state))

			cluster.Start(t)
			require.Equal(t, "1", ask(t, target, "select count(*)::text from orders"))
			require.Equal(t, "7", ask(t, target, "show max_prepared_transactions"))
			require.Equal(t, "on", ask(t, target, "show fsync"))
		})
	}
}

func TestClustersHaveIdentitiesOfTheirOwn(t *testing.T) {
	t.Parallel()
	const identity = "select system_identifier::text from pg_control_system()"
	cluster := testenv.PostgresCluster(t)
	require.NotEqual(t, ask(t, testenv.Postgres(t), identity), ask(t, cluster.URL(), identity))
}

func TestRequirePasswordRefusesAWrongOne(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t)
	target := cluster.RequirePassword(t, "app", "it's a secret")
	require.Equal(t, "app", ask(t, target, "select current_user"))

	_, err := pgx.Connect(t.Context(), strings.Replace(target, "secret", "guess", 1))
	require.ErrorContains(t, err, "password authentication failed")
}

func TestRedisAnswersAndKeepsNothingOnDisk(t *testing.T) {
	t.Parallel()
	target := testenv.Redis(t)
	options, err := redis.ParseURL(target)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.Set(t.Context(), "testenv", "here", 0).Err())
	require.Equal(t, "here", client.Get(t.Context(), "testenv").Val())
	require.Equal(t, map[string]string{"save": "", "appendonly": "no"}, settings(t, client, "save", "appendonly"))
	require.Equal(t, target, testenv.Redis(t), "the server is shared")
}

func settings(t *testing.T, client *redis.Client, names ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range names {
		values, err := client.ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		found[name] = values[name]
	}
	return found
}

func TestPgBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	target := testenv.Postgres(t)
	proxied := testenv.PgBouncer(t, target)
	require.NotEqual(t, target, proxied)

	// Two clients at rest share one server session: that is what transaction pooling means.
	config, err := pgx.ParseConfig(proxied)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	sessions := map[string]bool{}
	for range 2 {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(t.Context())) }()
		var session, database string
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_backend_pid()::text, current_database()").Scan(&session, &database))
		sessions[session] = true
		require.Contains(t, target, "/"+database+"?")
	}
	require.Len(t, sessions, 1)
}

func TestPostgresDoesNotRunAsRoot(t *testing.T) {
	t.Parallel()
	file, err := os.Stat(filepath.Join(testenv.PostgresCluster(t).DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	require.NotZero(t, file.Sys().(*syscall.Stat_t).Uid)
}

// recorder is a testing.TB that keeps the failure instead of failing.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

func TestEventuallyReturnsOnceTheCheckPasses(t *testing.T) {
	t.Parallel()
	calls := 0
	testenv.Eventually(t, time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	require.Equal(t, 3, calls)
}

func TestEventuallyFailsWithTheLastError(t *testing.T) {
	t.Parallel()
	tb := &recorder{TB: t}
	require.PanicsWithValue(t, tb, func() {
		testenv.Eventually(tb, 30*time.Millisecond, func() error { return errors.New("still dark") })
	})
	require.Equal(t, "not within 30ms: still dark", tb.failure)
}

// Not parallel: it looks at all goroutines of the process.
func TestIgnoreServersIgnoresWhatServersNeed(t *testing.T) {
	testenv.Postgres(t)
	require.ErrorContains(t, goleak.Find(), "testenv")
	require.NoError(t, goleak.Find(testenv.IgnoreServers()...))
}
