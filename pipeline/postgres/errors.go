package postgres

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrDeposed says that a write was refused because another process leads this listener now.
	ErrDeposed = errors.New("another process took over")
	// ErrWrongCluster says that a stored position belongs to another database, and with it what is parked: in another
	// cluster its transaction ids mean nothing, and a copy must not send what the original sends. It comes after a dump and
	// restore, in a copy, and when a URL points at the wrong server.
	ErrWrongCluster = errors.New("the checkpoint belongs to another database cluster")
	// ErrSchema says that our tables are missing or older than this program.
	ErrSchema = errors.New("database objects are missing or outdated")
	// errStartFrom says that the configured position of a first start is none.
	errStartFrom = errors.New("start_from")
	// ErrNotFound says that what an operator named does not exist.
	ErrNotFound = errors.New("not found")
)

// SQLSTATE codes that a caller of this package can do something about.
const (
	codeInvalidAuthorization = "28000"
	codeInvalidPassword      = "28P01"
	codeNoDatabase           = "3D000"
	codeNoSchema             = "3F000"
	codeNoRight              = "42501"
	codeNoTable              = "42P01"
	codeNoColumn             = "42703"
	codeNoFunction           = "42883"
	codeLockTimeout          = "55P03"
	codeStartingUp           = "57P03"
	codeTooManyConnections   = "53300"
	codeNoSetting            = "42704"
	codeBadSetting           = "22023"
	codeUntranslatable       = "22P05"
	codeInvalidText          = "22P02"
	codeProgramLimit         = "54000"
)

// advice says what to do, by SQLSTATE.
//
//nolint:gosec // texts for people, no credentials
var advice = map[string]string{
	codeInvalidPassword:      "wrong user or password: correct transport.postgres.url (or DATABASE_URL)",
	codeInvalidAuthorization: "the server does not let this user in: correct transport.postgres.url, or allow it in pg_hba.conf",
	codeNoDatabase:           "the database does not exist: correct the database name in transport.postgres.url, or create it",
	codeNoRight:              "the role lacks a right: let the owner run: observer migrate --grant-worker ROLE for a role that runs observer, --grant-app ROLE for one that emits events",
	codeNoSchema:             "database objects are missing; run: observer migrate",
	codeNoTable:              "database objects are missing; run: observer migrate",
	codeNoColumn:             "database objects are outdated; run: observer migrate",
	codeNoFunction:           "database objects are missing or outdated; run: observer migrate",
	codeLockTimeout:          "another session holds a lock on the table for too long: end long transactions and run this again",
	codeTooManyConnections:   "the server has no free connection: raise max_connections, or close other clients",
	codeStartingUp:           "the server is starting up or shutting down",
}

type diagnosedError struct {
	err    error
	advice string
}

func (e *diagnosedError) Error() string { return brief(e.err) + " (" + e.advice + ")" }
func (e *diagnosedError) Unwrap() error { return e.err }

// advise says what gives the missing right, where the general advice does not.
func advise(err error, text string) error {
	if !hasCode(err, codeNoRight) {
		return err
	}
	return &diagnosedError{err, text}
}

// Diagnose adds to err what is wrong and what to do, where that is known. Neither it nor what it wraps holds a password.
func Diagnose(err error) error {
	var done *diagnosedError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if foreign, ok := errors.AsType[*foreignError](err); ok {
		return &diagnosedError{err, foreign.advice()}
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if _, starting := errors.AsType[*pgconn.ConnectError](err); starting && badSetting(pg) {
			return &diagnosedError{err, "transport.postgres.url has a parameter that the server does not take: correct or remove it"}
		}
		if text, ok := advice[pg.Code]; ok {
			return &diagnosedError{err, text}
		}
		return err
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		text := "the server does not answer: check host and port in transport.postgres.url, and that it runs"
		if refusesTLS(connect) {
			text = "the server has no TLS: set up TLS there, or write sslmode=disable in transport.postgres.url"
		}
		return &diagnosedError{err, text}
	}
	if errors.Is(err, ErrWrongCluster) {
		return &diagnosedError{err, "check transport.postgres.url; after a restore run: observer checkpoint set NAME --to now|beginning|TIMESTAMP"}
	}
	return err
}

// IsFatal reports whether err needs a person: waiting and connecting again cannot mend it.
func IsFatal(err error) bool {
	if errors.Is(err, ErrWrongCluster) || errors.Is(err, ErrSchema) || errors.Is(err, errURL) || errors.Is(err, errStartFrom) {
		return true
	}
	connect, connecting := errors.AsType[*pgconn.ConnectError](err)
	if connecting && refusesTLS(connect) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case codeNoDatabase, codeNoSchema, codeNoRight, codeNoTable, codeNoColumn, codeNoFunction:
		return true
	}
	return strings.HasPrefix(pg.Code, "28") || connecting && badSetting(pg)
}

func hasCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return slices.Contains(codes, pg.Code)
}

// badSetting reports whether the server refused a parameter of the URL.
func badSetting(pg *pgconn.PgError) bool {
	return pg.Code == codeNoSetting || pg.Code == codeBadSetting
}

// noTLS is what pgconn says, without a type, when TLS is asked for and the server has none.
const noTLS = "server refused TLS connection"

// refusesTLS reports whether TLS was the only way to connect, and the server has none.
func refusesTLS(err *pgconn.ConnectError) bool {
	for _, cause := range causes(err) {
		if cause != noTLS {
			return false
		}
	}
	return true
}

// brief is the text of err. Of one that could not connect it tells the cause alone, once: pgconn's lists each address with
// each way that was tried, those first that only mean that another was tried next.
func brief(err error) string {
	connect, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err.Error()
	}
	list := slices.DeleteFunc(causes(connect), func(s string) bool { return s == noTLS })
	if len(list) == 0 {
		list = []string{noTLS}
	}
	return strings.Replace(err.Error(), connect.Error(), strings.Join(list, "; "), 1)
}

// causes are the texts of what an attempt to connect met at each address, each once.
func causes(err error) []string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range many.Unwrap() {
			for _, text := range causes(e) {
				if !slices.Contains(all, text) {
					all = append(all, text)
				}
			}
		}
		return all
	}
	if pg, ok := err.(*pgconn.PgError); ok { //nolint:errorlint // the chain is walked here
		return []string{pg.Error()}
	}
	if next := errors.Unwrap(err); next != nil {
		if _, dial := err.(*net.OpError); !dial { //nolint:errorlint // the chain is walked here
			return causes(next)
		}
	}
	return []string{err.Error()}
}

// wrap names what was tried and diagnoses why it failed.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, Diagnose(err))
}
