package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/window"
)

func TestAProcessStaysWithItsDatabaseAndFollowsAPromotion(t *testing.T) {
	t.Parallel()
	first := identity{"1", 5, 2}
	for name, tc := range map[string]struct {
		next  identity
		says  string
		fatal bool
	}{
		"the same":                           {first, "", false},
		"a promoted standby":                 {identity{"1", 5, 3}, "", false},
		"a standby, whose time is not known": {identity{"1", 5, 0}, "", false},
		"a former primary":                   {identity{"1", 5, 1}, "the server is an older one than before", false},
		"another database of the cluster":    {identity{"1", 6, 2}, "the server is another one than before", true},
		"another cluster":                    {identity{"2", 5, 2}, "the server is another one than before", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pin
			require.NoError(t, p.accept(first))
			err := p.accept(tc.next)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, Diagnose(err), tc.says)
			require.ErrorContains(t, Diagnose(err), "check transport.postgres.url, name resolution and proxies")
			require.Equal(t, tc.fatal, IsFatal(Diagnose(err)), "a former primary goes away again")
		})
	}
}

// switchboard stands before servers, as a name or a proxy does that leads to one of them.
type switchboard struct {
	tb     testing.TB
	listen net.Listener
	ended  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	open   []net.Conn
}

func newSwitchboard(t *testing.T, target string) (s *switchboard, through string) {
	t.Helper()
	listen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	s = &switchboard{tb: t, listen: listen, target: parsed.Host}
	s.ended.Go(s.serve)
	t.Cleanup(func() {
		require.NoError(t, listen.Close())
		s.leads(target)
		s.ended.Wait()
	})
	parsed.Host = listen.Addr().String()
	return s, parsed.String()
}

// leads breaks every connection; new ones go to target.
func (s *switchboard) leads(target string) {
	s.tb.Helper()
	parsed, err := url.Parse(target)
	require.NoError(s.tb, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = parsed.Host
	for _, conn := range s.open {
		_ = conn.Close()
	}
	s.open = nil
}

func (s *switchboard) serve() {
	for {
		in, err := s.listen.Accept()
		if err != nil {
			return // it was closed
		}
		s.mu.Lock()
		out, err := net.Dial("tcp", s.target)
		if err != nil {
			_ = in.Close()
			s.mu.Unlock()
			continue
		}
		s.open = append(s.open, in, out)
		s.mu.Unlock()
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			s.ended.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_, _ = way[0].Close(), way[1].Close()
			})
		}
	}
}

// TestAConnectionToAnotherDatabaseIsRefused leads a process to a copy that was made a database of its own: nothing that is stored
// there says what the process has seen before.
func TestAConnectionToAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	from, to := testenv.PostgresCluster(t, "fsync=off").NewDatabase(t), testenv.PostgresCluster(t, "fsync=off").NewDatabase(t)
	board, through := newSwitchboard(t, from)
	h := newRig(t, through)
	lease := h.acquire()
	lease.suspend.Store(true) // a renewal would find it as well
	q, err := NewRetryQueue(RetryQueueConfig{DB: h.pool, Listener: "observer", Fence: lease, MaxDeliver: 3})
	require.NoError(t, err)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	copied := newRig(t, restored(t, from, to))
	require.NoError(t, SetCheckpoint(t.Context(), copied.pool, "observer", "now"))
	before := copied.contents(t)

	board.leads(to)
	testenv.Eventually(t, 10*time.Second, func() error { // once it has noticed that its connections are gone
		items, _, err := q.due(t.Context(), 10)
		require.Empty(t, items)
		if !errors.Is(err, ErrWrongCluster) {
			return fmt.Errorf("the pool says %w", err)
		}
		require.ErrorContains(t, err, "the server is another one than before")
		return nil
	})
	require.Equal(t, before, copied.contents(t))
	board.leads(from)
	require.Len(t, fetchSome(t, q, 10), 1)
}

// TestARunningProcessTakesNothingFromACopy leads a process that works to a copy, which has its lease.
func TestARunningProcessTakesNothingFromACopy(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wake string
		as   func(t *testing.T, url string) string // how the process reaches the switchboard
	}{
		"by name":                 {"notify", func(_ *testing.T, url string) string { return url }},
		"through pooled sessions": {"poll", func(t *testing.T, url string) string { t.Helper(); return testenv.PgBouncer(t, url) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := testenv.PostgresCluster(t, "fsync=off").NewDatabase(t), testenv.PostgresCluster(t, "fsync=off").NewDatabase(t)
			board, through := newSwitchboard(t, from)
			h := newRig(t, tc.as(t, through), func(c *Config) { c.Wake, c.BatchSize = tc.wake, 20 })
			lease := h.acquire()
			q, err := NewRetryQueue(RetryQueueConfig{DB: h.pool, Listener: "observer", Fence: lease, MaxDeliver: 3})
			require.NoError(t, err)
			require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
			r := h.reader(lease)
			h.emit(1, 500)
			r.ack(r.take(1)...) // a window of many pages is under way
			copied := newRig(t, restored(t, from, to))
			execSQL(t, copied.pool, `update core.tb_entity_change_log set object_key = 'copied'`)
			before := copied.contents(t)

			board.leads(to)
			var items []window.Item
			for err == nil {
				require.NotContains(t, keys(items), "copied")
				items, err = r.Fetch(t.Context(), 10)
			}
			require.True(t, window.IsFatal(err))
			require.True(t, errors.Is(err, ErrWrongCluster) || errors.Is(err, ErrDeposed), err)
			claimed, _, _ := q.due(t.Context(), 10)
			require.Empty(t, claimed)
			require.Error(t, q.Park(t.Context(), delivery("2", "o", "a"), time.Now()))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			select {
			case <-lease.Lost():
			case <-ctx.Done():
				require.Fail(t, "the lease is not lost")
			}
			_, err = Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: "observer", Log: h.log})
			require.ErrorIs(t, err, ErrWrongCluster)
			require.Equal(t, before, copied.contents(t))
		})
	}
}
