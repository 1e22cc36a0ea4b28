package testenv

import (
	"fmt"
	"sync"
	"testing"
)

// sharedCluster is the cluster of [Postgres]: its data ends with the tests, so it never waits for the disk.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	c, err := NewCluster("fsync=off", "full_page_writes=off")
	if err != nil {
		return nil, err
	}
	if version, err := postgresVersion(c.bin); err == nil && version >= 15 {
		c.copying = " strategy file_copy" // a quarter of the work, where the disk is not waited for
	}
	return c, nil
})

// Postgres returns the URL of a new empty database for this test, dropped when the test ends. The cluster is private to
// the test binary, and shared by its tests. It loses data when its machine stops (fsync is off), not when it stops.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return postgresFrom(tb, "template0")
}

func postgresFrom(tb testing.TB, template string) string {
	tb.Helper()
	cluster, err := sharedCluster()
	if err != nil {
		tb.Fatalf("start shared Postgres: %v", err)
	}
	name := cluster.createDatabase(tb, template)
	tb.Cleanup(func() {
		if err := cluster.execute(fmt.Sprintf("drop database if exists %s with (force)", name)); err != nil {
			tb.Errorf("drop database of the test: %v", err)
		}
	})
	return cluster.url(name)
}

// Template is a database whose copies tests get, because to fill each anew takes longer.
type Template struct {
	fill func(url string) error
	once sync.Once
	name string
	err  error
}

// NewTemplate returns a template that fill fills before the first copy. It must leave no connection to it.
func NewTemplate(fill func(url string) error) *Template { return &Template{fill: fill} }

// Postgres is [Postgres] with what is in the template.
func (p *Template) Postgres(tb testing.TB) string {
	tb.Helper()
	p.once.Do(func() {
		cluster, err := sharedCluster()
		if err != nil {
			p.err = err
			return
		}
		p.name = cluster.createDatabase(tb, "template0")
		p.err = p.fill(cluster.url(p.name))
	})
	if p.err != nil {
		tb.Fatalf("fill template of databases: %v", p.err)
	}
	return postgresFrom(tb, p.name)
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
