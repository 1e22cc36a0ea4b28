package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// crowd is how many endpoints there are.
const crowd = 50

// crowded is a receiver with an address for each endpoint, which notes how long after its change a request came.
type crowded struct {
	addrs []string

	mu   sync.Mutex      // guards what follows
	bad  []misbehaviour  // what the first endpoint does with its requests, in turn; none: it works
	took []time.Duration // of all endpoints but the first
	hung int
}

func newCrowd(t *testing.T) *crowded {
	t.Helper()
	c := &crowded{}
	for i := range crowd {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		c.addrs = append(c.addrs, listener.Addr().String())
		server := &http.Server{Handler: c.endpoint(i == 0), ReadHeaderTimeout: within}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		t.Cleanup(func() {
			require.NoError(t, server.Close())
			require.ErrorIs(t, <-ended, http.ErrServerClosed)
		})
	}
	return c
}

func (c *crowded) endpoint(first bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, err := time.Parse(time.RFC3339Nano, r.Header.Get("X-Changed"))
		var misbehave http.HandlerFunc
		c.mu.Lock()
		switch {
		case first && len(c.bad) > 0:
			misbehave = c.bad[c.hung%len(c.bad)].act
			c.hung++
		case !first && err == nil:
			c.took = append(c.took, time.Since(at))
		}
		c.mu.Unlock()
		if misbehave != nil {
			misbehave(w, r)
		}
	})
}

// measure changes rows of all entities for a while, evenly, and returns how long the requests to all endpoints but the first
// took: the median and the 99th percentile.
func (c *crowded) measure(t *testing.T, url string, bad []misbehaviour, duration time.Duration) (p50, p99 time.Duration) {
	t.Helper()
	c.mu.Lock()
	c.bad, c.took, c.hung = bad, nil, 0
	c.mu.Unlock()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	sent := 0
	for end := time.Now().Add(duration); time.Now().Before(end); wait(t.Context(), 20*time.Millisecond) {
		for i := range crowd / 10 {
			entity := (sent/(crowd/10)*(crowd/10) + i) % crowd
			_, err := conn.Exec(t.Context(), `select core.emit_event($1, '{}', $2)`, fmt.Sprintf("E%d", entity), strconv.Itoa(sent+i))
			require.NoError(t, err)
		}
		sent += crowd / 10
	}
	require.NoError(t, errors.Join(conn.Close(context.WithoutCancel(t.Context()))))
	others := sent - (sent+crowd-1)/crowd
	testenv.Eventually(t, within, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.took) < others {
			return fmt.Errorf("%d of %d requests arrived", len(c.took), others)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(bad) > 0 {
		require.Positive(t, c.hung, "the first endpoint was asked")
	}
	slices.Sort(c.took)
	return c.took[len(c.took)/2], c.took[len(c.took)*99/100]
}

// TestAHangingEndpointSlowsNoOther has fifty endpoints, of which one lets every request wait for 15 s.
func TestAHangingEndpointSlowsNoOther(t *testing.T) {
	exact(t)
	besideOneThat(t, []misbehaviour{hanging}, 1.2)
}

// TestAnEndpointThatFailsInEveryWaySlowsNoOther is the same with one that misbehaves differently each time.
func TestAnEndpointThatFailsInEveryWaySlowsNoOther(t *testing.T) {
	exact(t)
	besideOneThat(t, misbehaviours, 1.5) // floods take processor time
}

func besideOneThat(t *testing.T, bad []misbehaviour, factor float64) {
	t.Helper()
	url := captured.Postgres(t)
	c := newCrowd(t)
	var file strings.Builder
	fmt.Fprintf(&file, "[transport]\ntransport = \"postgres\"\n[transport.postgres]\nurl = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n", url)
	for i, addr := range c.addrs {
		fmt.Fprintf(&file, "[[observers]]\nname = \"e%d\"\nentity = \"E%d\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"http://%s/\"\nheaders = { X-Changed = \"{{ event.timestamp }}\" }\n", i, i, addr)
	}
	name := filepath.Join(t.TempDir(), "observer.toml")
	require.NoError(t, os.WriteFile(name, []byte(file.String()), 0o600))
	o := startObserver(t, name)
	o.leads(t)
	duration := pick(3*time.Second, 12*time.Second)
	c.measure(t, url, nil, time.Second) // connections are made
	_, without := c.measure(t, url, nil, duration)
	p50, with := c.measure(t, url, bad, duration)
	_, after := c.measure(t, url, nil, duration)
	t.Logf("p99 of %d endpoints: %s alone, %s beside one that misbehaves (p50 %s), %s once it works", crowd-1, without, with, p50, after)
	limit := time.Duration(float64(max(without, after))*factor) + pick(time.Second, 0) // the short form runs beside others
	require.LessOrEqual(t, with, limit, "p99 beside the hanging endpoint")
	testenv.Eventually(t, 2*within, func() error {
		left, err := queryURL[int64](t.Context(), url, `select count(*) from core.tb_observer_retry`)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d deliveries are still parked", left)
		}
		return err
	})
	code, _ := o.terminate(t)
	require.Zero(t, code)
}
