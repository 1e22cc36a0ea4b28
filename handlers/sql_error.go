package handlers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer/event"
)

// outcome turns what the driver returned into an outcome. What fails before the function is reached is never the event's fault,
// and passes once the server is back, a standby promoted or a password corrected. The text holds the server's message and its
// SQLSTATE, not its detail, which quotes rows. A shutdown stays recognisable as context.Canceled.
func (a *sqlAttempt) outcome(ctx context.Context, err error) error {
	pg, answered := errors.AsType[*pgconn.PgError](err)
	ended := answered && pg.Code == codeCanceled && !a.end.IsZero() && !time.Now().Before(a.end)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("wait for result: %w", context.Canceled)
	case a.called && (ended || ctx.Err() != nil):
		return event.WithClass(errors.New("no result in time"), "timeout")
	case ctx.Err() != nil:
		return event.WithClass(errors.New("no connection in time"), "timeout")
	case !answered:
		return event.WithClass(errors.New(shorten(connectionText(err))), networkClass(err))
	}
	err = event.WithClass(errors.New(shorten(pg.Message)+" (SQLSTATE "+pg.Code+")"), sqlClass(pg.Code))
	if a.called && permanentSQL(pg.Code) {
		return event.Permanent(err)
	}
	return err
}

func sqlClass(code string) string {
	switch {
	case strings.HasPrefix(code, "28"):
		return "auth"
	case code == codeNoDatabase:
		return "database"
	}
	return "sqlstate_" + code
}

const (
	codeNoDatabase = "3D000"
	codeNoSchema   = "3F000"
	codeNoRight    = "42501"
	codeNoFunction = "42883"
	codeWrongKind  = "42809"
	codeCanceled   = "57014"
	codeRaised     = "P0001"
	codeIdle       = "25P03" // the transaction stood idle for too long
	codeLasted     = "25P04" // the transaction lasted too long
)

// permanentSQL reports whether a function that failed with this SQLSTATE fails again for the same event. The other classes are
// those of locks, deadlocks, lost connections, missing memory or disk and a server that stops; raise exception without a code is
// among them, since its author can give one, and so is every code that somebody made up.
func permanentSQL(code string) bool {
	if len(code) < 2 || code == codeRaised || code == codeIdle || code == codeLasted {
		return false
	}
	switch code[:2] {
	case "0A", "21", "22", "23", "25", "2F", "38", "39", "3F", "42", "44", "54", "P0":
		return true
	}
	return false
}

// connectionText says why nothing was answered, without the name of the user, with which pgconn begins.
func connectionText(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = connect.Unwrap()
	}
	return strings.Join(strings.Fields(err.Error()), " ") // pgconn writes a line for each address
}
