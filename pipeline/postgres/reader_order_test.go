package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

// receiver acks everything that a reader gives, and remembers it.
type receiver struct {
	mu     sync.Mutex
	order  map[string][]int // revisions by entity id, in the order of their arrival
	times  map[string]int   // arrivals by entity id and revision
	late   []time.Duration  // from insert to arrival
	reader *readerRig
	cancel context.CancelFunc
	done   chan struct{}
}

type payload struct {
	N   int   `json:"n"`
	Rev int   `json:"rev"`
	At  int64 `json:"at"` // of the insert, in µs
}

func receive(r *readerRig) *receiver {
	ctx, cancel := context.WithCancel(context.Background())
	c := &receiver{order: map[string][]int{}, times: map[string]int{}, reader: r, cancel: cancel, done: make(chan struct{})}
	go c.run(ctx)
	r.tb.Cleanup(c.stop)
	return c
}

func (c *receiver) stop() {
	c.cancel()
	<-c.done
}

func (c *receiver) run(ctx context.Context) {
	defer close(c.done)
	for {
		items, err := c.reader.Fetch(ctx, 100)
		if err != nil {
			return
		}
		c.mu.Lock()
		for _, item := range items {
			e := event.OfContext(item.Msg.Context())
			var p payload
			if err := json.Unmarshal(e.Data, &p); err != nil {
				panic(err)
			}
			c.order[e.EntityID] = append(c.order[e.EntityID], p.Rev)
			c.times[fmt.Sprint(e.EntityID, "/", p.Rev)]++
			if p.At > 0 {
				c.late = append(c.late, time.Since(time.UnixMicro(p.At)))
			}
		}
		c.mu.Unlock()
		if err := c.reader.Ack(ctx, items); err != nil {
			panic(err)
		}
	}
}

func (c *receiver) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// writers commit revisions of entities concurrently and journal what was committed.
type writers struct {
	mu        sync.Mutex
	committed map[string]bool
	unknown   map[string]bool // the connection broke during the commit
	aborted   map[string]bool
}

const insertRevision = `insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data)
	values ('Order', 'UPDATE', $1, jsonb_build_object('rev', $2::int, 'at', (extract(epoch from clock_timestamp()) * 1000000)::bigint))`

// write runs n writers until ctx ends. Each transaction locks two entities in a row, with a pause between, and one in ten
// rolls back.
func (w *writers) write(ctx context.Context, h *rig, n int) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := w.connect(ctx, h); err != nil {
					_ = sleep(ctx, 20*time.Millisecond)
				}
			}
		})
	}
	all.Wait()
}

func (w *writers) connect(ctx context.Context, h *rig) error {
	conn, err := pgx.ConnectConfig(ctx, h.pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	for ctx.Err() == nil {
		if err := w.transaction(context.WithoutCancel(ctx), conn); err != nil {
			return err
		}
	}
	return nil
}

func (w *writers) transaction(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	low := rand.IntN(200)
	written, err := w.revise(ctx, tx, low)
	if err != nil {
		return err
	}
	if rand.IntN(20) == 0 {
		_ = sleep(ctx, 50*time.Millisecond)
	}
	second, err := w.revise(ctx, tx, low+1+rand.IntN(20))
	if err != nil {
		return err
	}
	list := []string{written, second}
	if rand.IntN(10) == 0 {
		w.note(w.aborted, list)
		return tx.Rollback(ctx)
	}
	err = tx.Commit(ctx)
	if err != nil {
		w.note(w.unknown, list)
		return err
	}
	w.note(w.committed, list)
	return nil
}

func (w *writers) revise(ctx context.Context, tx pgx.Tx, key int) (string, error) {
	var rev int
	if err := tx.QueryRow(ctx, `insert into entity as e values ($1, 1) on conflict (k) do update set rev = e.rev + 1 returning rev`, key).Scan(&rev); err != nil {
		return "", err
	}
	_, err := tx.Exec(ctx, insertRevision, strconv.Itoa(key), rev)
	return fmt.Sprint(key, "/", rev), err
}

func (w *writers) note(set map[string]bool, list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range list {
		set[name] = true
	}
}

func newWriters(h *rig) *writers {
	h.exec(`create table entity (k int primary key, rev int not null)`)
	return &writers{committed: map[string]bool{}, unknown: map[string]bool{}, aborted: map[string]bool{}}
}

// settle waits until the receiver has all that was committed, and checks what it got.
func (w *writers) settle(t *testing.T, c *receiver) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		missing := 0
		for name := range w.committed {
			if c.times[name] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d committed changes are lost", missing, len(w.committed))
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	twice := 0
	for name, n := range c.times {
		twice += n - 1
		// A revision number of a transaction that rolled back is given out again, so only what was never committed counts.
		require.True(t, w.committed[name] || w.unknown[name], "%s was delivered and never committed", name)
	}
	require.Zero(t, twice, "duplicates")
	for key, revs := range c.order {
		require.IsIncreasing(t, revs, "revisions of entity %s", key)
	}
}

// soak is how long the writers of a test write: a few seconds, or OBSERVER_SOAK.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("OBSERVER_SOAK")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

func TestLateCommitsRollbacksAndATransactionThatStaysOpen(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	w := newWriters(h)
	r := h.reader(h.acquire())
	r.none()
	open, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), insertRevision, "open", 1)
	require.NoError(t, err)
	c := receive(r)
	ctx, cancel := context.WithTimeout(t.Context(), soak(t))
	defer cancel()
	w.write(ctx, h, 12)
	w.settle(t, c)
	t.Logf("%d changes committed", len(w.committed))
	require.Greater(t, len(w.committed), 100)
	require.Zero(t, c.times["open/1"])
	require.NoError(t, open.Commit(t.Context()))
	testenv.Eventually(t, 5*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.times["open/1"] != 1 {
			return errors.New("the row of the transaction that stayed open has not come")
		}
		return nil
	})
	c.stop()
	r.close()
	var pending int
	require.NoError(t, h.pool.QueryRow(t.Context(), `select cardinality(pending) from public.tb_observer_checkpoint`).Scan(&pending))
	require.Zero(t, pending)
}
