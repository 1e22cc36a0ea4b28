package testenv

import (
	"fmt"
	"net/url"
	"strconv"
	"testing"
)

// Standby starts a server that replicates c, with its system identifier and its databases, until the test ends.
func (c *Cluster) Standby(tb testing.TB) *Cluster {
	tb.Helper()
	return c.copied(tb, "start standby", func(s *Cluster) error {
		return s.tool("pg_basebackup", "--host=127.0.0.1", "--port="+strconv.Itoa(c.port), "--username=postgres", "--pgdata="+s.DataDir(),
			"--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	})
}

// Promote makes a standby a primary and waits until it is one.
func (c *Cluster) Promote(tb testing.TB) {
	tb.Helper()
	const patience = 60 // seconds
	if err := c.execute(fmt.Sprintf("do $$ begin if not pg_promote(true, %d) then raise 'it is still a standby'; end if; end $$", patience)); err != nil {
		tb.Fatalf("promote standby: %v", err)
	}
}

// Upgrade starts a server with what pg_upgrade makes of c, which must be stopped and stays so: the same databases under
// another system identifier. It ends with the test.
func (c *Cluster) Upgrade(tb testing.TB) *Cluster {
	tb.Helper()
	return c.copied(tb, "upgrade Postgres", func(u *Cluster) error {
		if err := u.initialise(nil); err != nil {
			return err
		}
		return u.tool("pg_upgrade", "--old-bindir="+c.bin, "--new-bindir="+u.bin, "--old-datadir="+c.DataDir(), "--new-datadir="+u.DataDir(),
			"--socketdir="+u.dir, "--username=postgres")
	})
}

func (c *Cluster) copied(tb testing.TB, what string, fill func(*Cluster) error) *Cluster {
	tb.Helper()
	s, err := newCluster(fill)
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
	s.databases.Store(c.databases.Load()) // it has those
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close copy of Postgres: %v", err)
		}
	})
	return s
}

// At returns the URL of the database that target names on this server.
func (c *Cluster) At(tb testing.TB, target string) string {
	tb.Helper()
	named, err := url.Parse(target)
	if err != nil {
		tb.Fatalf("read URL of database: %v", err)
	}
	parsed, err := url.Parse(c.URL())
	if err != nil {
		tb.Fatalf("read URL of cluster: %v", err)
	}
	parsed.Path = named.Path
	return parsed.String()
}
