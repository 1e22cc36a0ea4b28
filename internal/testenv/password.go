package testenv

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const reloadTimeout = 10 * time.Second

// RequirePassword creates a role that must give its password (SCRAM), unlike the others, and returns the URL of the
// database postgres for it.
func (c *Cluster) RequirePassword(tb testing.TB, role, password string) string {
	tb.Helper()
	if err := c.requirePassword(role, password); err != nil {
		tb.Fatalf("require password of %s: %v", role, err)
	}
	return c.passwordURL(role, password)
}

func (c *Cluster) passwordURL(role, password string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", url.UserPassword(role, password), c.port)
}

func (c *Cluster) requirePassword(role, password string) error {
	literal := "'" + strings.ReplaceAll(password, "'", "''") + "'"
	name := pgx.Identifier{role}.Sanitize()
	if err := c.execute(fmt.Sprintf("set password_encryption = 'scram-sha-256'; create role %s login password %s", name, literal)); err != nil {
		return err
	}
	file := filepath.Join(c.DataDir(), "pg_hba.conf")
	rules, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// The first rule that fits holds, so this one stands before those that trust everyone.
	if err = writeFile(file, fmt.Sprintf("host all %s 127.0.0.1/32 scram-sha-256\n%s", name, rules)); err != nil {
		return err
	}
	if err = c.execute("select pg_reload_conf()"); err != nil {
		return err
	}
	return poll(reloadTimeout, func() error { return refused(c.passwordURL(role, password+"-wrong")) })
}

// refused reports anything but a refusal of the password.
func refused(target string) error {
	err := execute(target, "select 1")
	var answer *pgconn.PgError
	if errors.As(err, &answer) && answer.Code == "28P01" {
		return nil
	}
	if err == nil {
		return errors.New("a wrong password is still accepted")
	}
	return err
}
