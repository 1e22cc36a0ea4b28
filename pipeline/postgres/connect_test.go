package postgres

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestConnectSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	locked := testenv.PostgresCluster(t).RequirePassword(t, "worker", "right")
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := nobody.Addr().String()
	require.NoError(t, nobody.Close())

	for name, tc := range map[string]struct {
		url, want string
		fatal     bool
	}{
		"no URL":                        {"", "transport.postgres.url (or DATABASE_URL) is missing", false},
		"no connection URL":             {"postgres://u:hunter2@host:notaport/db", "is missing or no connection URL", false},
		"a server that does not answer": {"postgres://u:hunter2@" + free + "/db", "the server does not answer: check host and port", false},
		"a missing database":            {url[:strings.LastIndex(url, "/")] + "/nowhere", "the database does not exist", true},
		"a wrong password":              {strings.Replace(locked, "right", "hunter2", 1), "wrong user or password", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Connect(t.Context(), Config{URL: secret.String(tc.url)}, discard)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2")
			require.Equal(t, tc.fatal, IsFatal(err))
		})
	}
}

func TestDiagnoseOfAMissingTableAndRight(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	_, err := pool.Exec(t.Context(), `select 1 from core.tb_entity_change_log`)
	require.ErrorContains(t, Diagnose(err), "run: observer migrate")
	require.True(t, IsFatal(Diagnose(err)))
	require.Equal(t, Diagnose(err), Diagnose(Diagnose(err)), "said once")

	role := newRole(t, pool)
	_, err = asRole(t, pool, role).Exec(t.Context(), `create table public.x (id int)`)
	require.ErrorContains(t, Diagnose(err), "--grant-worker")

	require.ErrorContains(t, Diagnose(fmt.Errorf("start: %w", ErrWrongCluster)), "observer checkpoint set")
	require.False(t, IsFatal(errors.New("anything else")))
	require.NoError(t, Diagnose(nil))
}

func TestConnectAndWaitWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t)
	cluster.Stop(t, "fast")
	got := make(chan error, 1)
	go func() {
		pool, err := ConnectAndWait(t.Context(), Config{URL: secret.String(cluster.URL())}, discard)
		if err == nil {
			pool.Close()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("returned while the server was down: %v", err)
	case <-time.After(400 * time.Millisecond):
	}
	cluster.Start(t)
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("did not connect")
	}
}

func TestSessionsHaveNoJIT(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	require.Equal(t, "off", queryOne[string](t, pool, `show jit`))
	require.Equal(t, "observer observer", queryOne[string](t, pool, `show application_name`))
}
