package postgres

import (
	"context"
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
		"no URL":                        {"", "transport.postgres.url (or DATABASE_URL) is missing", true},
		"no connection URL":             {"postgres://u:hunter2@host:notaport/db", "transport.postgres.url (or DATABASE_URL) is no connection URL", true},
		"an unknown parameter":          {url + "&foo=x", "has a parameter that the server does not take", true},
		"a parameter without sense":     {url + "&statement_timeout=soon", "has a parameter that the server does not take", true},
		"TLS that the server lacks":     {strings.Replace(url, "sslmode=disable", "sslmode=require", 1), "the server has no TLS", true},
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

func TestASmallerPoolThanOursIsMadeLarger(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, n := range []string{"1", "30"} {
		pool, err := Connect(ctx, Config{URL: secret.String(testenv.Postgres(t) + "&pool_max_conns=" + n)}, discard)
		require.NoError(t, err)
		defer pool.Close()
		require.NoError(t, Migrate(ctx, pool, discard))
		require.Equal(t, map[string]int32{"1": poolSize, "30": 30}[n], pool.Config().MaxConns)
	}
}

func TestConnectionErrorsBeginWithTheirCause(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	_, err := Connect(t.Context(), Config{URL: secret.String(dsn[:strings.LastIndex(dsn, "/")] + "/nowhere?sslmode=prefer")}, discard)
	require.EqualError(t, err, `connect to postgres: FATAL: database "nowhere" does not exist (SQLSTATE 3D000) (`+advice[codeNoDatabase]+")")
	_, err = Connect(t.Context(), Config{URL: "postgres://u@127.0.0.1:1/d"}, discard)
	require.EqualError(t, err, "connect to postgres: dial tcp 127.0.0.1:1: connect: connection refused (the server does not answer: check host and port in transport.postgres.url, and that it runs)")
}

func TestCheckURLNamesTheParameterAndNoSecret(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ url, want string }{
		"one that is right":     {"postgres://u:hunter2@h/d?sslmode=require&pool_max_conns=3&application_name=a+b", ""},
		"words instead":         {"host=h dbname=d password=hunter2", ""},
		"none":                  {"", "is missing: write"},
		"a port that is none":   {"postgres://u:hunter2@host:notaport/db", "is no connection URL"},
		"a password with a /":   {"postgres://u:hun/ter2@host/db", "is no connection URL"},
		"a misspelt sslmode":    {"postgres://u:hunter2@h/d?application_name=a&sslmode=verify-ful", "parameter sslmode:"},
		"a pool of x":           {"postgres://u:hunter2@h/d?sslmode=disable&pool_max_conns=x", "parameter pool_max_conns:"},
		"a time that is none":   {"postgres://u:hunter2@h/d?connect_timeout=abc", "parameter connect_timeout:"},
		"a missing certificate": {"postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/nope", "parameter sslrootcert:"},
		"a missing key":         {"postgres://u:hunter2@h/d?sslcert=/nope&sslkey=/nope", "parameter sslcert:"},
	} {
		err := CheckURL(tc.url)
		if tc.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, tc.want, name)
		require.NotContains(t, err.Error(), "ter2", name)
	}
}

func TestAStartFromThatIsNoPositionIsFatal(t *testing.T) {
	t.Parallel()
	err := createCheckpoint(t.Context(), migratedDB(t), "observer", "yesterday")
	require.ErrorContains(t, err, `start_from "yesterday" is neither`)
	require.True(t, IsFatal(err))
}

func TestDidYouMeanIgnoresTheSchemaOfCandidatesOnlyWhenNoneIsGiven(t *testing.T) {
	t.Parallel()
	names := []string{"warehouse.items", "public.orders"}
	require.Equal(t, "; did you mean public.orders?", didYouMean("ordres", names))
	require.Equal(t, "; did you mean warehouse.items?", didYouMean("warehouse.itms", names))
	require.Empty(t, didYouMean("customers", names))
}

func TestSessionsHaveNoJIT(t *testing.T) {
	t.Parallel()
	pool := connectTest(t, testenv.Postgres(t))
	require.Equal(t, "off", queryOne[string](t, pool, `show jit`))
	require.Equal(t, "observer observer", queryOne[string](t, pool, `show application_name`))
}
