package postgres

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// lossy runs a statement that contains what is stored in it on the server, and loses the answer, once.
type lossy struct {
	*pgxpool.Pool
	lose atomic.Value
}

func (l *lossy) loses(sql string) bool {
	text, _ := l.lose.Load().(string)
	return text != "" && strings.Contains(sql, text) && l.lose.CompareAndSwap(text, "")
}

func (l *lossy) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if !l.loses(lastOf(b)) {
		return l.Pool.SendBatch(ctx, b)
	}
	b.QueuedQueries[len(b.QueuedQueries)-1].Query(func(rows pgx.Rows) error {
		rows.Close()
		return errors.Join(errors.New("connection reset by peer"), rows.Err())
	})
	return l.Pool.SendBatch(ctx, b)
}

// lastOf is the statement of a batch that is not a setting.
func lastOf(b *pgx.Batch) string { return b.QueuedQueries[len(b.QueuedQueries)-1].SQL }

const aClaim = "claims = r.claims + 1"

func queueOver(t *testing.T, db DB, g int64) *RetryQueue {
	t.Helper()
	q, err := NewRetryQueue(RetryQueueConfig{DB: db, Listener: "observer", Fence: generation(g), MaxDeliver: 3})
	require.NoError(t, err)
	return q
}

func TestAClaimWhoseAnswerIsLostIsHandedOutAllTheSame(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &lossy{Pool: pool}
	q := queueOver(t, db, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	db.lose.Store(aClaim)
	_, err := q.Fetch(t.Context(), 10)
	require.ErrorContains(t, err, "connection reset")
	require.Len(t, fetchSome(t, q, 10), 1)
	fetchNothing(t, q, 50*time.Millisecond)
}

func TestASuspectWhoseClaimIsLostHasStartedOnceOnly(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	require.Len(t, fetchSome(t, q, 10), 1)
	takeOver(t, pool)
	db := &lossy{Pool: pool}
	q = queueOver(t, db, 2)
	for range 5 {
		db.lose.Store(aClaim)
		_, err := q.Fetch(t.Context(), 10)
		require.ErrorContains(t, err, "connection reset")
	}
	require.Len(t, fetchSome(t, q, 10), 1)
	require.Equal(t, 1, queryOne[int](t, pool, `select starts from core.tb_observer_retry`))
}

func TestALostClaimIsGivenBackByClose(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &lossy{Pool: pool}
	q := queueOver(t, db, 1)
	for _, id := range []string{"1", "2"} {
		require.NoError(t, q.Park(t.Context(), delivery(id, "o", "a"), time.Now()))
	}
	db.lose.Store(aClaim)
	_, err := q.Fetch(t.Context(), 10)
	require.Error(t, err)
	require.NoError(t, q.Close(t.Context()))
	takeOver(t, pool)
	require.Len(t, fetchSome(t, newQueue(t, pool, 2), 10), 2, "both at once: none is suspect")
}

// cancelling cancels the caller's context when a claim is sent: shutdown in the middle of it.
type cancelling struct {
	*pgxpool.Pool
	cancel context.CancelFunc
}

func (c *cancelling) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if strings.Contains(lastOf(b), aClaim) {
		c.cancel()
	}
	return c.Pool.SendBatch(ctx, b)
}

func TestAClaimOutlivesAShutdownThatBeginsMeanwhile(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	ctx, cancel := context.WithCancel(t.Context())
	q := queueOver(t, &cancelling{pool, cancel}, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	items, err := q.Fetch(ctx, 10)
	require.NoError(t, err)
	require.Len(t, items, 1, "the subscriber gives it back")
}

// flaky fails the next answers of single rows.
type flaky struct {
	*pgxpool.Pool
	fail atomic.Int32
}

func (f *flaky) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if f.fail.Add(-1) >= 0 {
		return failedRow{}
	}
	return f.Pool.QueryRow(ctx, sql, args...)
}

func TestCloseNeverGivesBackWhatSucceeded(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &flaky{Pool: pool}
	q := queueOver(t, db, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	require.NoError(t, q.Park(t.Context(), delivery("2", "o", "a"), time.Now()))
	items := fetchSome(t, q, 10)
	db.fail.Store(3) // the acknowledgement, and twice when it is told again
	require.Error(t, q.Ack(t.Context(), items[:1]))
	require.NoError(t, q.Close(t.Context()))
	require.Equal(t, items[1].Msg.UUID, queryOne[string](t, pool, `select event_id from core.tb_observer_retry where claimed_by is null`))
	require.Equal(t, 1, parkedRows(t, pool))
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &flaky{Pool: pool}
	q := queueOver(t, db, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	items := fetchSome(t, q, 10)
	db.fail.Store(1 << 30)
	require.Error(t, q.Ack(t.Context(), items))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, q.Close(ctx), "connection lost")
	require.Equal(t, 1, queryOne[int](t, pool, `select count(*) from core.tb_observer_retry where claimed_by = 1`))
}

// timed fails the test when a statement could wait for ever.
type timed struct {
	*pgxpool.Pool
	t *testing.T
}

func (d *timed) check(ctx context.Context, sql string) {
	end, ok := ctx.Deadline()
	require.True(d.t, ok, sql)
	require.LessOrEqual(d.t, time.Until(end), statementTimeout)
}

func (d *timed) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	d.check(ctx, sql)
	return d.Pool.Query(ctx, sql, args...)
}

func (d *timed) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	d.check(ctx, lastOf(b))
	return d.Pool.SendBatch(ctx, b)
}

func (d *timed) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	d.check(ctx, sql)
	return d.Pool.QueryRow(ctx, sql, args...)
}

func TestEveryStatementHasADeadline(t *testing.T) {
	t.Parallel()
	db := &timed{leading(t), t}
	q := queueOver(t, db, 1)
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, q.Park(context.WithoutCancel(t.Context()), delivery(id, "o", "a"), time.Now()))
	}
	items, err := q.Fetch(context.WithoutCancel(t.Context()), 10)
	require.NoError(t, err)
	require.NoError(t, q.Ack(context.WithoutCancel(t.Context()), items[:1]))
	require.NoError(t, q.Nack(context.WithoutCancel(t.Context()), items[1], time.Hour))
	require.NoError(t, (&DeadLetters{DB: db, Listener: "observer", Fence: generation(1)}).Put(context.WithoutCancel(t.Context()), delivery("4", "o", "a")))
	require.NoError(t, q.Close(context.WithoutCancel(t.Context())))
}
