package handlers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// SQL is the action that calls a function of a Postgres database with the event as jsonb. Each attempt is one transaction, which
// is committed when the function has returned; what it returns is thrown away.
//
// A connection that is lost during the commit leaves the outcome unknown. That is a failed attempt, so the function may run twice
// for one event: it should be idempotent by event->>'id', which every attempt and every redelivery has in common.
//
// What the function changes is captured as any change is: one that writes to the table whose events it gets calls itself without
// end, unless the condition of its observer leaves its own changes out.
type SQL struct {
	servers  *Servers
	url      secret.String // "" is the transport's database
	database string        // host and name, which is all that is shown of the URL
	function string        // as the file writes it
	name     pgx.Identifier
	call     string
	hidden   bool // the name came from the environment, as a secret does
}

// NewSQL builds the action from its keys.
func NewSQL(cfg *SQLConfig, env Env) (Action, error) {
	if env.Servers == nil {
		return nil, errors.New("build action: no servers are given")
	}
	s := &SQL{servers: env.Servers, function: cfg.Function, hidden: env.hides("function")}
	var nameErr, urlErr error
	s.name, nameErr = functionName(cfg.Function)
	s.url, s.database, urlErr = databaseURL(cfg.URLEnv, env.Servers.cfg)
	if err := errors.Join(nameErr, urlErr); err != nil {
		return nil, err
	}
	s.call = "select " + s.name.Sanitize() + "($1::jsonb)"
	return s, nil
}

// qualifiedName is a name in a schema, as Postgres reads both: plain, or anything between double quotes.
var qualifiedName = regexp.MustCompile(`^` + sqlName + `\.` + sqlName + `$`)

const (
	sqlName    = `([A-Za-z_][A-Za-z0-9_$]*|"(?:[^"\x00]|"")+")`
	maxSQLName = 63 // bytes; Postgres cuts the rest off, and would call another function
)

func functionName(text string) (pgx.Identifier, error) {
	const hint = "write schema.name, such as app.on_order"
	parts := qualifiedName.FindStringSubmatch(text)
	if parts == nil {
		return nil, &KeyError{Key: "function", Err: errors.New("is no name of a function with its schema"), Hint: hint}
	}
	name := pgx.Identifier(parts[1:])
	for i, part := range name {
		if inner, quoted := strings.CutPrefix(part, `"`); quoted {
			name[i] = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
		} else {
			name[i] = strings.ToLower(part)
		}
		if len(name[i]) > maxSQLName {
			return nil, &KeyError{Key: "function", Err: fmt.Errorf("holds a name of more than %d bytes, which Postgres cuts off", maxSQLName), Hint: hint}
		}
	}
	return name, nil
}

// databaseURL returns the URL in a variable, "" for the transport's database, and what is shown of it.
func databaseURL(variable string, servers ServersConfig) (url secret.String, shown string, err error) {
	const form = "postgres://user:password@host:5432/database" //nolint:gosec // the form to write, no credential
	problem := func(what, hint string) error {
		return &KeyError{Key: "url_env", Err: errors.New(what), Hint: hint}
	}
	full := servers.Postgres.Reveal()
	if variable != "" {
		full = os.Getenv(variable)
		url = secret.String(full)
	}
	switch {
	case full == "" && variable != "":
		return "", "", problem("the environment variable "+variable+" is not set", "set it to "+form)
	case full == "" && servers.Offline:
		return "", "the transport's", nil
	case full == "":
		return "", "", problem("is missing, and the transport has no database", "set url_env to the name of a variable that holds "+form)
	}
	cfg, parseErr := pgxpool.ParseConfig(full) // its text may hold the password
	switch {
	case parseErr != nil && variable != "":
		return "", "", problem("the environment variable "+variable+" holds no URL of a Postgres database", "write "+form+", with special characters percent-encoded")
	case parseErr != nil:
		return "", "", problem("is missing, and the transport's database has no valid URL", "correct url in [transport.postgres]")
	}
	return url, cfg.ConnConfig.Host + "/" + cfg.ConnConfig.Database, nil
}

// Endpoint names the function and its database: another function is another endpoint, since it fails for reasons of its own.
func (s *SQL) Endpoint() string {
	if s.hidden {
		return "sql://" + s.database
	}
	return "sql://" + s.database + "/" + s.function
}

// Run calls the function once. When ctx ends, the function ends on the server too.
func (s *SQL) Run(ctx context.Context, d *event.Delivery) error {
	pool, err := s.servers.postgres(ctx, s.url.Reveal())
	if err != nil {
		return err
	}
	var attempt sqlAttempt
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, attempt.begin(ctx), func(tx pgx.Tx) error {
			attempt.called = true
			rows, err := tx.Query(ctx, s.call, string(jsonb(d.Event.JSON())))
			if err != nil {
				return err
			}
			rows.Close() // reads to the end, and keeps nothing however many rows there are
			return rows.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("call %s: %w", s.function, attempt.outcome(ctx, err))
	}
	return nil
}

// sqlAttempt is what the outcome of an attempt depends on, besides its error.
type sqlAttempt struct {
	called bool      // the function was reached
	end    time.Time // when the server ends the function, zero when it does not
}

// begin returns how the transaction is opened: with a time-out on the server, a little before ctx ends. So the function is over when
// Run returns, and where Run was killed; and the connection lives on. It replaces one that the role may have, which is for its
// application, and ends with the transaction: the session may be a proxy's.
func (a *sqlAttempt) begin(ctx context.Context) pgx.TxOptions {
	deadline, ok := ctx.Deadline()
	if !ok {
		return pgx.TxOptions{BeginQuery: "begin read write"}
	}
	left := time.Until(deadline)
	limit := (left - min(left/10, time.Second)).Milliseconds() // what is kept is for the answer and the rollback
	limit = min(max(limit, 1), math.MaxInt32)                  // 0 is no time-out
	a.end = time.Now().Add(time.Duration(limit) * time.Millisecond)
	return pgx.TxOptions{BeginQuery: fmt.Sprintf("begin read write; set local statement_timeout = %d", limit)}
}

// Preview implements [Previewer].
func (s *SQL) Preview(d *event.Delivery) (Preview, error) {
	function := s.function
	if s.hidden {
		function = secret.Mask
	}
	return Preview{
		Request: "select " + function + "($1::jsonb)",
		Fields:  []PreviewField{{Name: "Database", Value: s.database}},
		Body:    string(jsonb(d.Event.JSON())),
	}, nil
}

// functionRight finds the function that a call with jsonb, known to be possible, reaches.
const functionRight = `select oidvectortypes(p.proargtypes), has_function_privilege(p.oid, 'execute')
	from pg_proc p join pg_namespace n on n.oid = p.pronamespace
	where n.nspname = $1 and p.proname = $2 and p.pronargs >= 1 and p.pronargs - p.pronargdefaults <= 1
	order by p.proargtypes[0] = 'jsonb'::regtype desc, p.pronargs limit 1`

// Check implements [Checker]. Whether there is a function for the call is Postgres's own opinion, which knows casts, defaults and
// polymorphic arguments: it parses the call, and runs nothing.
func (s *SQL) Check(ctx context.Context) (detail string, err error) {
	pool, err := s.servers.postgres(ctx, s.url.Reveal())
	if err != nil {
		return "", err
	}
	var (
		attempt   sqlAttempt
		arguments string
		allowed   bool
		role      = pgx.Identifier{pool.Config().ConnConfig.User}.Sanitize()
	)
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, attempt.begin(ctx), func(tx pgx.Tx) error { // as Run does: a standby refuses it
			if _, err := tx.Prepare(ctx, "", s.call); err != nil {
				return err
			}
			return tx.QueryRow(ctx, functionRight, s.name[0], s.name[1]).Scan(&arguments, &allowed)
		})
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("look for %s(jsonb) in %s: %w%s", s.function, s.database, attempt.outcome(ctx, err), s.advice(err, role))
	case !allowed:
		return "", fmt.Errorf("%s may not call %s(%s) in %s (let its owner run: grant execute on function %[2]s(%[3]s) to %[1]s)", role, s.function, arguments, s.database)
	}
	return fmt.Sprintf("%s(%s) is there", s.function, arguments), nil
}

// advice says what to write, in brackets, where that is known.
func (s *SQL) advice(err error, role string) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	schema, create := s.name[:1].Sanitize(), "create function "+s.function+"(event jsonb) returns void …"
	switch pg.Code {
	case codeNoFunction:
		return " (write: " + create + ")"
	case codeNoSchema:
		return " (write: create schema " + schema + "; " + create + ")"
	case codeWrongKind:
		return " (make it a function: " + create + ")"
	case codeNoRight:
		return " (let its owner run: grant usage on schema " + schema + " to " + role + ")"
	}
	return ""
}
