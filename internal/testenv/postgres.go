package testenv

import (
	"fmt"
	"sync"
	"testing"
)

// sharedCluster is the cluster of [Postgres]: its data ends with the tests, so it never waits for the disk.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	return NewCluster("fsync=off", "full_page_writes=off")
})

// Postgres returns the URL of a new empty database for this test, dropped when the test ends. The cluster is private to
// the test binary, and shared by its tests. It loses data when its machine stops (fsync is off), not when it stops.
func Postgres(tb testing.TB) string {
	tb.Helper()
	cluster, err := sharedCluster()
	if err != nil {
		tb.Fatalf("start shared Postgres: %v", err)
	}
	return cluster.ofTest(tb, "template0")
}

// Template is a database that tests start with, such as one with our objects in it: copying it takes a tenth of the time that
// making it takes.
type Template struct {
	// Prepare fills an empty database. It runs once.
	Prepare func(url string) error

	once sync.Once
	name string
	err  error
}

// Postgres is [Postgres] for a copy of the template.
func (p *Template) Postgres(tb testing.TB) string {
	tb.Helper()
	cluster, err := sharedCluster()
	if err != nil {
		tb.Fatalf("start shared Postgres: %v", err)
	}
	p.once.Do(func() {
		p.name = cluster.createDatabase(tb, "template0")
		p.err = p.Prepare(cluster.url(p.name))
	})
	if p.err != nil {
		tb.Fatalf("prepare database: %v", p.err)
	}
	return cluster.ofTest(tb, p.name)
}

// ofTest creates a database that ends with the test.
func (c *Cluster) ofTest(tb testing.TB, template string) string {
	tb.Helper()
	name := c.createDatabase(tb, template)
	tb.Cleanup(func() {
		if err := c.execute(fmt.Sprintf("drop database if exists %s with (force)", name)); err != nil {
			tb.Errorf("drop database of the test: %v", err)
		}
	})
	return c.url(name)
}

// PostgresCluster starts a private cluster for tests that stop or crash one. Settings are lines of postgresql.conf, such
// as "max_prepared_transactions=10"; fsync is on. It ends, with its data, when the test ends.
func PostgresCluster(tb testing.TB, settings ...string) *Cluster {
	tb.Helper()
	cluster, err := NewCluster(settings...)
	return untilEnd(tb, cluster, err)
}

// untilEnd closes the cluster when the test ends.
func untilEnd(tb testing.TB, cluster *Cluster, err error) *Cluster {
	tb.Helper()
	if err != nil {
		tb.Fatalf("start private Postgres: %v", err)
	}
	tb.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			tb.Errorf("close private Postgres: %v", err)
		}
	})
	return cluster
}
