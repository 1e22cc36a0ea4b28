package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/postgres"
)

// countingAction is an action that counts its runs, of which the first may fail.
type countingAction struct {
	runs  atomic.Int64
	fails int64
}

func (c *countingAction) Run(context.Context, *event.Delivery) error {
	if c.runs.Add(1) <= c.fails {
		return fmt.Errorf("run %d fails", c.runs.Load())
	}
	return nil
}

func (c *countingAction) definition() handlers.Definition {
	return handlers.Define("count", func(*struct{}, handlers.Env) (handlers.Action, error) { return c, nil })
}

const counted = `
[transport]
transport = "in_memory"
[performance]
enable_dedup = true
[[observers]]
entity = "Order"
[[observers.actions]]
type = "count"
[observers.retry]
initial_delay_ms = 1
`

// twice is one event that comes two times.
func twice(id string) string {
	return strings.Repeat(fmt.Sprintf(`{"id":%q,"entity_type":"Order","event_type":"UPDATE","entity_id":"1","data":{}}`+"\n", id), 2)
}

func TestAnEventThatComesAgainIsSkipped(t *testing.T) {
	t.Parallel()
	var action countingAction
	summary, err := build(t, counted, action.definition()).RunInput(t.Context(), "input", strings.NewReader(twice(uuid.NewString())))
	require.NoError(t, err)
	require.Equal(t, 2, summary.Events)
	require.EqualValues(t, 1, summary.Delivered)
	require.EqualValues(t, 1, action.runs.Load())
}

func TestAFailedAttemptIsNoDuplicate(t *testing.T) {
	t.Parallel()
	action := countingAction{fails: 2}
	summary, err := build(t, counted, action.definition()).RunInput(t.Context(), "input", strings.NewReader(twice(uuid.NewString())))
	require.NoError(t, err)
	require.EqualValues(t, 1, summary.Delivered)
	require.EqualValues(t, 3, action.runs.Load())
}

func TestRedisRemembersAcrossRestarts(t *testing.T) {
	t.Parallel()
	var action countingAction
	input := twice(uuid.NewString())
	for range 2 {
		p := build(t, counted+"[redis]\nurl = \""+testenv.Redis(t)+"\"\n", action.definition())
		_, err := p.RunInput(t.Context(), "input", strings.NewReader(input))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, action.runs.Load())
}

func TestWithoutRedisEverythingIsDelivered(t *testing.T) {
	t.Parallel()
	var action countingAction
	p := build(t, counted+"[redis]\nurl = \"redis://127.0.0.1:1/0\"\n", action.definition())
	summary, err := p.RunInput(t.Context(), "input", strings.NewReader(twice(uuid.NewString())))
	require.NoError(t, err)
	require.EqualValues(t, 2, summary.Delivered)
}

func TestPostgresRemembersWhatWasDone(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)))
	_, err = pool.Exec(t.Context(), `insert into core.tb_entity_change_log (id, object_type, modification_type, object_key, object_data)
		select case when n <= 2 then '00000000-0000-0000-0000-000000000001' else gen_random_uuid() end, 'Order', 'UPDATE', n::text, '{}' from generate_series(1, 3) n`)
	require.NoError(t, err)
	var action countingAction
	text := strings.Replace(counted, `transport = "in_memory"`, "transport = \"postgres\"\n[transport.postgres]\nstart_from = \"beginning\"\nurl = \""+url+"\"\n[admin]\nlisten = \"\"", 1)
	p := build(t, text, action.definition())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	testenv.Eventually(t, 30*time.Second, func() error {
		var done, pending int
		err := pool.QueryRow(t.Context(), `select (select count(*) from core.tb_observer_dedup where done),
			(select coalesce(sum(cardinality(pending)), 1) from public.tb_observer_checkpoint where read_up_to >= 0)`).Scan(&done, &pending)
		if err == nil && (done != 2 || pending != 0 || action.runs.Load() < 2) {
			err = fmt.Errorf("%d done, %d pending", done, pending)
		}
		return err
	})
	cancel()
	require.NoError(t, <-ended)
	require.EqualValues(t, 2, action.runs.Load(), "of three events two are one")
}
