package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// row is one part of the table, which may have several lines.
type row struct {
	key, about string
	measure    func(b *bench, ctx context.Context) ([]result, error)
	extra      bool // measured only when it is named
}

var rows = []row{
	{"a", "change log -> router -> no-op action", (*bench).drain, false},
	{"b", "row change -> webhook, and the CPU that it takes", (*bench).webhooks, false},
	{"c", "commit -> webhook received, and memory under steady load", (*bench).latency, false},
	{"d", "what capture and a running observer cost the application", (*bench).tax, false},
	{"e", "100 observers of which one matches", (*bench).many, false},
	{"f", "deduplication: row change -> webhook, with it and without", (*bench).dedup, false},
	{"g", "memory with a large backlog", (*bench).memory, false},
	{"h", "start -> first delivery", (*bench).startup, false},
	{"i", "the cache: how long an action takes that is skipped", (*bench).cacheHits, false},
	{"j", "bridge: change log -> JetStream, and its memory with a large backlog", (*bench).bridge, false},
	{"k", "JetStream -> router -> no-op action", (*bench).worker, false},
	{"l", "Redis Streams -> router -> no-op action", (*bench).streams, false},
	{"m", "what a running observer costs the application on a slow disk", (*bench).slowDisk, false},
	{"n", "the same on three disks with few and many writers, half an hour", (*bench).slowDisks, true},
}

// sizes say how much is measured.
type sizes struct {
	pairs    int
	backlog  int64         // changes that are drained
	retained int64         // changes before them that were delivered already
	posts    int64         // changes that are sent to a receiver
	slow     time.Duration // of a run against a receiver that takes its time
	steady   time.Duration // of 500 changes a second
	scale    int           // of pgbench
	load     time.Duration // of one pgbench run
	short    time.Duration // of one on a slow disk
	entities int64         // that the changes are about
	hits     int           // of the cache
}

var (
	full  = sizes{pairs: 5, backlog: 100_000, retained: 1_000_000, posts: 50_000, slow: 4 * time.Second, steady: 15 * time.Second, scale: 10, load: 10 * time.Second, short: 3 * time.Second, entities: 2_000, hits: 500}
	small = sizes{pairs: 1, backlog: 5_000, retained: 10_000, posts: 2_000, slow: 500 * time.Millisecond, steady: time.Second, scale: 1, load: time.Second, short: time.Second, entities: 500, hits: 20}
)

// bench is one run of the program.
type bench struct {
	sizes
	profile  string // directory, "" for none
	progress io.Writer
	cluster  *testenv.Cluster
	dir      string // files of this run
	count    int    // of listeners and databases: each has a new name
}

// clusterSettings are those of a server as it comes, but for memory and checkpoints: a checkpoint in the middle of one run and not of
// another would measure the disk.
var clusterSettings = []string{"shared_buffers = 512MB", "max_wal_size = 8GB", "checkpoint_timeout = 1h", "autovacuum = off"}

func (b *bench) measure(ctx context.Context, chosen []row) (results []result, err error) {
	if b.dir, err = os.MkdirTemp("", "observer-bench-"); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.cluster, err = testenv.NewCluster(clusterSettings...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.cluster.Close()) }()
	for _, r := range chosen {
		fmt.Fprintf(b.progress, "%s  %s\n", r.key, r.about)
		part, err := r.measure(b, ctx)
		if err != nil {
			return results, fmt.Errorf("row %s: %w", r.key, err)
		}
		results = append(results, part...)
	}
	return results, nil
}

// note tells how it goes.
func (b *bench) note(format string, args ...any) {
	fmt.Fprintf(b.progress, "     "+format+"\n", args...)
}

func (b *bench) name(prefix string) string {
	b.count++
	return fmt.Sprintf("%s_%d", prefix, b.count)
}
