package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestMain forgets the variables of the caller: a test must not work on the caller's database.
func TestMain(m *testing.M) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if name == "DATABASE_URL" || name == "RUST_LOG" || strings.HasPrefix(name, "FRAISEQL_") || strings.HasPrefix(name, "OTEL_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	testenv.Concurrent(6)
	os.Exit(testenv.MainWithLeakCheck(m))
}

// outcome is what one call of the program did.
type outcome struct {
	code     int
	out, err string
}

// observer calls the program, with in as standard input.
func observer(t *testing.T, in string, args ...string) outcome {
	t.Helper()
	return observerWith(t, in, nil, args...)
}

func observerWith(t *testing.T, in string, options []Option, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	code := execute(t.Context(), args, strings.NewReader(in), &out, &errOut, options...)
	return outcome{code, out.String(), errOut.String()}
}

// succeeds calls the program, which must exit with 0, and returns what it wrote to standard output.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	r := observer(t, "", args...)
	require.Zero(t, r.code, "observer %s: %s", strings.Join(args, " "), r.err)
	return r.out
}

// file writes a file of the test and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// configFor writes a configuration for a database.
func configFor(t *testing.T, url string) string {
	t.Helper()
	return file(t, "observer.toml", fmt.Sprintf("[transport.postgres]\nurl = %q\n", url))
}

// migrated is a database that observer migrate has been run for.
var migrated = testenv.NewTemplate(func(url string) error {
	cfg, err := os.CreateTemp("", "observer-*.toml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(cfg.Name()) }() // of no use to anybody
	if _, err = fmt.Fprintf(cfg, "[transport.postgres]\nurl = %q\n", url); err != nil {
		return err
	}
	if err = cfg.Close(); err != nil {
		return err
	}
	var errOut bytes.Buffer
	if code := execute(background(), []string{"migrate", "--config", cfg.Name()}, strings.NewReader(""), io.Discard, &errOut); code != exitOK {
		return errors.New(errOut.String())
	}
	return nil
})

// database makes a database with our objects and a configuration for it.
func database(t *testing.T) (cfg string, db *pgx.Conn) {
	t.Helper()
	url := migrated.Postgres(t)
	return configFor(t, url), connect(t, url)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(background()) })
	return db
}

// background is for cleaning up: the context of a test has ended by then.
func background() context.Context { return context.Background() }

// run runs SQL.
func run(t *testing.T, db *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// one returns the only value of a query.
func one[T any](t *testing.T, db *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return value
}
