package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

type generation int64

func (g generation) Generation() int64 { return int64(g) }

func newQueue(t *testing.T, pool *pgxpool.Pool, g int64) *RetryQueue {
	t.Helper()
	q, err := NewRetryQueue(RetryQueueConfig{DB: pool, Listener: "observer", Fence: generation(g), MaxDeliver: 3})
	require.NoError(t, err)
	return q
}

// leading is a migrated database in which generation 1 leads.
func leading(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := migratedDB(t)
	execSQL(t, pool, `insert into core.tb_observer_lease (name, generation) values ('observer', 1)`)
	return pool
}

func takeOver(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	execSQL(t, pool, `update core.tb_observer_lease set generation = generation + 1`)
}

func delivery(id, observer, action string) *event.Delivery {
	return &event.Delivery{
		Event: &event.Event{
			ID: uuid.NewString(), Type: event.Update, Entity: "Order", EntityID: id, Timestamp: time.Now().UTC().Truncate(time.Microsecond),
			Data: json.RawMessage(`{"n":12345678901234567890}`),
		},
		Observer: observer, Action: action,
		Attempts: []event.Attempt{{At: time.Now().UTC().Truncate(time.Microsecond), Error: "503", Class: "http_503"}},
	}
}

func fetchSome(t *testing.T, q *RetryQueue, limit int) []window.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	items, err := q.Fetch(ctx, limit)
	require.NoError(t, err)
	return items
}

func fetchNothing(t *testing.T, q *RetryQueue, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	items, err := q.Fetch(ctx, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, items)
}

func fetchAndAck(t *testing.T, q *RetryQueue) *event.Delivery {
	t.Helper()
	items := fetchSome(t, q, 1)
	require.Len(t, items, 1)
	require.NoError(t, q.Ack(t.Context(), items))
	return event.FromContext(items[0].Msg.Context())
}

func parkedRows(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return queryOne[int](t, pool, `select count(*) from core.tb_observer_retry`)
}

func TestAParkedDeliveryComesBackWholeWhenDue(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	d := delivery("7", "shipped", "notify")
	d.Generation = 2
	due := time.Now().Add(300 * time.Millisecond)
	require.NoError(t, q.Park(t.Context(), d, due))

	items := fetchSome(t, q, 10)
	require.False(t, time.Now().Before(due), "not before it is due")
	require.Len(t, items, 1)
	require.Equal(t, d.Event.ID, items[0].Msg.UUID)
	got := event.FromContext(items[0].Msg.Context())
	require.Same(t, got.Event, event.OfContext(items[0].Msg.Context()))
	require.Equal(t, d.ID(), got.ID())
	require.Equal(t, 2, got.Generation)
	d.Attempts[0].Generation = 2 // it was new when it was stored
	require.Equal(t, d.Attempts, got.Attempts)
	require.JSONEq(t, string(d.Event.JSON()), string(got.Event.JSON()))
	require.Contains(t, string(got.Event.Data), "12345678901234567890")

	fetchNothing(t, q, 50*time.Millisecond)
	require.NoError(t, q.Ack(t.Context(), items))
	require.Zero(t, parkedRows(t, pool))
}

func TestParkWakesAQueueThatSleeps(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	got := make(chan time.Time, 1)
	go func() {
		if _, err := q.Fetch(t.Context(), 1); err == nil {
			got <- time.Now()
		}
	}()
	require.Eventually(t, func() bool { // it sleeps once it has asked
		return queryOne[int](t, pool, `select count(*) from pg_stat_activity where query like '%min(not_before)%' and pid <> pg_backend_pid() and datname = current_database()`) > 0
	}, 5*time.Second, 5*time.Millisecond)
	parked := time.Now()
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), parked))
	require.Less(t, (<-got).Sub(parked), retryPoll/2)
}

func TestParkingAgainReplacesAttemptsAndSurvivesALateAck(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	d := delivery("1", "o", "a")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	first := fetchSome(t, q, 1)

	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC(), Error: "again\x00\xff", Class: "timeout"})
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	require.Equal(t, 1, parkedRows(t, pool))
	second := fetchSome(t, q, 1)
	require.Len(t, event.FromContext(second[0].Msg.Context()).Attempts, 2)

	require.NoError(t, q.Ack(t.Context(), first), "the acknowledgement of the first hand-out comes late")
	require.Equal(t, 1, parkedRows(t, pool))
	require.NoError(t, q.Ack(t.Context(), second))
	require.Zero(t, parkedRows(t, pool))
}

func TestNackGivesBackAfterTheDelay(t *testing.T) {
	t.Parallel()
	q := newQueue(t, leading(t), 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	require.NoError(t, q.Nack(t.Context(), fetchSome(t, q, 1)[0], 300*time.Millisecond))
	fetchNothing(t, q, 100*time.Millisecond)
	fetchAndAck(t, q)
}

func TestADeposedProcessWritesNothing(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	d := delivery("1", "o", "a")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	require.NoError(t, q.Park(t.Context(), delivery("2", "o", "a"), time.Now()))
	items := fetchSome(t, q, 2)
	takeOver(t, pool)

	require.ErrorIs(t, q.Ack(t.Context(), items[:1]), ErrDeposed)
	require.ErrorIs(t, q.Nack(t.Context(), items[1], 0), ErrDeposed)
	require.ErrorIs(t, q.Close(t.Context()), ErrDeposed)
	require.ErrorIs(t, q.Park(t.Context(), d, time.Now()), ErrDeposed)
	require.ErrorIs(t, (&DeadLetters{DB: pool, Listener: "observer", Fence: generation(1)}).Put(t.Context(), d), ErrDeposed)
	require.ErrorIs(t, (&DeadLetters{DB: pool, Listener: "observer", Fence: generation(0)}).Put(t.Context(), d), ErrDeposed)
	fetchNothing(t, q, 50*time.Millisecond)
	require.Equal(t, 2, parkedRows(t, pool))
	require.Zero(t, queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter`))

	require.Equal(t, d.ID(), fetchAndAck(t, newQueue(t, pool, 2)).ID(), "the next leader has it")
}

func TestCloseGivesBackWhatIsOutWithoutSuspicion(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	for i := range 3 {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	items := fetchSome(t, q, 10)
	require.Len(t, items, 3)
	require.NoError(t, q.Ack(t.Context(), items[:1]))
	require.NoError(t, q.Close(t.Context()))
	takeOver(t, pool)
	require.Len(t, fetchSome(t, newQueue(t, pool, 2), 10), 2, "both at once: none is suspect")
}

// TestSuspectsRunOneAtATime lets processes die: what they had claimed stays claimed.
func TestSuspectsRunOneAtATime(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	killer, neighbour := delivery("1", "o", "kill"), delivery("2", "o", "a")
	require.NoError(t, q.Park(t.Context(), killer, time.Now()))
	require.NoError(t, q.Park(t.Context(), neighbour, time.Now()))
	require.Len(t, fetchSome(t, q, 10), 2) // the first death

	takeOver(t, pool)
	q = newQueue(t, pool, 2)
	fresh := delivery("3", "o", "a")
	require.NoError(t, q.Park(t.Context(), fresh, time.Now()))
	items := fetchSome(t, q, 10)
	require.Len(t, items, 2, "one suspect, and what is not suspect")
	require.Equal(t, killer.Event.ID, items[0].Msg.UUID)
	require.Equal(t, fresh.Event.ID, items[1].Msg.UUID)
	require.NoError(t, q.Ack(t.Context(), items[1:]))
	fetchNothing(t, q, 50*time.Millisecond) // the second death

	takeOver(t, pool)
	q = newQueue(t, pool, 3)
	require.Equal(t, killer.Event.ID, fetchSome(t, q, 10)[0].Msg.UUID) // the third

	takeOver(t, pool)
	q = newQueue(t, pool, 4)
	items = fetchSome(t, q, 10)
	require.Len(t, items, 1)
	require.Equal(t, killer.ID(), event.FromContext(items[0].Msg.Context()).ID())
	require.True(t, isPoison(items[0]), "there is no fourth")
	require.NoError(t, q.Ack(t.Context(), items))
	require.Equal(t, neighbour.ID(), fetchAndAck(t, q).ID())
	require.Zero(t, parkedRows(t, pool))
}

func TestASuspectThatSettlesLetsTheNextOneRun(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	for i := range 3 {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	require.Len(t, fetchSome(t, q, 10), 3)
	takeOver(t, pool)
	q = newQueue(t, pool, 2)
	for range 3 {
		fetchAndAck(t, q)
	}
	require.Zero(t, parkedRows(t, pool))
}

// failing refuses to answer while it is set.
type failing struct {
	*pgxpool.Pool
	down bool
}

type failedRow struct{}

func (failedRow) Scan(...any) error { return errors.New("connection lost") }

func (f *failing) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if f.down {
		return failedRow{}
	}
	return f.Pool.QueryRow(ctx, sql, args...)
}

func TestAnAckThatTheDatabaseMissedIsToldAgain(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &failing{Pool: pool}
	q, err := NewRetryQueue(RetryQueueConfig{DB: db, Listener: "observer", Fence: generation(1), MaxDeliver: 3})
	require.NoError(t, err)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	items := fetchSome(t, q, 1)
	db.down = true
	require.Error(t, q.Ack(t.Context(), items))
	db.down = false
	fetchNothing(t, q, 50*time.Millisecond)
	require.Zero(t, parkedRows(t, pool))
}
