package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const queryTimeout = 30 * time.Second

// Cluster is a private Postgres server.
type Cluster struct {
	bin, dir  string
	env       []string // more of the server's environment
	port      int
	databases atomic.Int64
	copying   string // how a database is made of its template

	mu     sync.Mutex
	server *process
}

// NewCluster starts a private cluster with these lines of postgresql.conf; the caller closes it. Each is made by initdb,
// not copied from one: their system identifiers differ, as those of real clusters do.
func NewCluster(settings ...string) (*Cluster, error) {
	return newCluster(func(c *Cluster) error { return c.initialise(settings) })
}

// newCluster starts a server on the data that fill puts into the data directory.
func newCluster(fill func(*Cluster) error) (*Cluster, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := newDir("postgres")
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir}
	if err = fill(c); err == nil {
		err = withPort(func(port int) error {
			c.port = port
			return c.start()
		})
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

func (c *Cluster) initialise(settings []string) error {
	err := c.tool("initdb", "--pgdata="+c.DataDir(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	return c.configure(settings)
}

// tool runs a program that comes with the server.
func (c *Cluster) tool(name string, args ...string) error {
	return run(c.dir, filepath.Join(c.bin, name), args...)
}

// configure appends to the file that initdb wrote: of two lines for one setting the last one holds.
func (c *Cluster) configure(settings []string) error {
	lines := append([]string{
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''", // a path in the data directory can be too long for a socket
		"max_connections = 200",
		"shared_buffers = 64MB",
		"timezone = 'UTC'",
	}, settings...)
	name := filepath.Join(c.DataDir(), "postgresql.conf")
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read postgresql.conf: %w", err)
	}
	if err = writeFile(name, string(text)+"\n"+strings.Join(lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

// URL returns the superuser's URL of the database postgres.
func (c *Cluster) URL() string { return c.url("postgres") }

func (c *Cluster) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// DataDir returns the data directory.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

// NewDatabase returns the superuser's URL of a new empty database, which ends with the cluster.
func (c *Cluster) NewDatabase(tb testing.TB) string {
	tb.Helper()
	return c.url(c.createDatabase(tb, "template0"))
}

func (c *Cluster) createDatabase(tb testing.TB, template string) string {
	tb.Helper()
	name := "test_" + strconv.FormatInt(c.databases.Add(1), 10)
	if err := c.execute("create database " + name + " template " + template + c.copying); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	return name
}

// execute runs one statement as the superuser in the database postgres.
func (c *Cluster) execute(statement string) error {
	return execute(c.URL(), statement)
}

func execute(target, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Stop ends the server and waits for it: "fast" disconnects everyone and writes a checkpoint, "immediate" does not, as in
// a crash, so that the next start recovers from the log.
func (c *Cluster) Stop(tb testing.TB, mode string) {
	tb.Helper()
	signals := map[string]syscall.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}
	signal, known := signals[mode]
	if !known {
		tb.Fatalf("stop Postgres: unknown mode %q (fast or immediate)", mode)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.server.stop(signal); err != nil {
		tb.Fatal(err)
	}
}

// Start starts the stopped server again, on its port, and waits until it accepts connections.
func (c *Cluster) Start(tb testing.TB) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.ended() {
		tb.Fatal("start Postgres: it runs already; Stop it first")
	}
	if err := c.start(); err != nil {
		tb.Fatal(err)
	}
}

// Close stops the server without a checkpoint and removes its data.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.server.stop(syscall.SIGQUIT), os.RemoveAll(c.dir))
}

func (c *Cluster) start() error {
	server, err := startProcess(c.dir, syscall.SIGQUIT, c.env, filepath.Join(c.bin, "postgres"), "-D", c.DataDir(), "-p", strconv.Itoa(c.port))
	if err != nil {
		return err
	}
	if err = server.ready(func() error { return c.accepts(server.cmd.Process.Pid) }); err != nil {
		return err
	}
	c.server = server
	return nil
}

// accepts reads the status that the server writes: a connection could reach a stranger who took the port.
func (c *Cluster) accepts(pid int) error {
	text, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) >= 8 && lines[0] == strconv.Itoa(pid) {
		switch strings.TrimSpace(lines[7]) {
		case "ready", "standby":
			return nil
		}
	}
	return errors.New("it does not accept connections yet")
}
