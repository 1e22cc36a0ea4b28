package postgres

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// errURL has no cause of its own: a parser's message may hold the URL, and with it the password.
var errURL = errors.New("transport.postgres.url (or DATABASE_URL)")

// CheckURL finds, without any network, what is wrong with a connection URL. Its error reads on after the name of the key
// and holds nothing of the URL but the name of a parameter.
func CheckURL(dsn string) error {
	const form = "write postgres://user:password@host:5432/database" //nolint:gosec // the form to write, no credential
	if dsn == "" {
		return errors.New("is missing: " + form)
	}
	if _, err := pgxpool.ParseConfig(dsn); err == nil {
		return nil
	}
	if _, err := pgxpool.ParseConfig("postgres://localhost/any"); err != nil {
		return errors.New("cannot be read: a variable of the environment such as PGSSLMODE has no valid value")
	}
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("is no connection URL: " + form + ", with special characters of the password percent-encoded")
	}
	if name := badParameter(u.Query()); name != "" {
		return errors.New("has no valid value for its parameter " + name + ": correct it, and check that files that it names exist")
	}
	return errors.New("is no connection URL: " + form)
}

// badParameter adds the parameters one after the other, to find the first that cannot be read.
func badParameter(all url.Values) string {
	var names []string
	for name := range all {
		if name != "sslkey" { // goes with sslcert
			names = append(names, name)
		}
	}
	slices.Sort(names)
	some := url.Values{}
	for _, name := range names {
		some[name] = all[name]
		if name == "sslcert" {
			some["sslkey"] = all["sslkey"]
		}
		if _, err := pgxpool.ParseConfig("postgres://localhost/any?" + strings.ReplaceAll(some.Encode(), "+", "%20")); err != nil {
			return name
		}
	}
	return ""
}
