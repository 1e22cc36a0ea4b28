package postgres

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestARowGivesItsTraceContextToItsEvent(t *testing.T) {
	t.Parallel()
	for column, change := range map[string]string{"jsonb": "", "text": "alter table core.tb_entity_change_log alter trace_context type text"} {
		t.Run("the column is "+column, func(t *testing.T) {
			t.Parallel()
			h := newTestRig(t)
			if change != "" {
				h.exec(change)
			}
			r := h.reader(h.acquire())
			for _, value := range []string{`{"traceparent": "` + traceParent + `", "tracestate": "a=1"}`, `"` + traceParent + `"`, `{"traceparent": "x"}`, `7`} {
				h.exec(`insert into core.tb_entity_change_log (object_type, modification_type, object_data, trace_context) values ('Order', 'INSERT', '{}', $1::text::`+column+`)`, value)
			}
			h.emit(1, 1)
			var got []event.TraceContext
			for _, item := range r.take(5) {
				got = append(got, event.OfContext(item.Msg.Context()).Trace)
			}
			require.Equal(t, []event.TraceContext{{Parent: traceParent, State: "a=1"}, {Parent: traceParent}, {}, {}, {}}, got)
		})
	}
}

func TestThePublisherKeepsTheTraceContext(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	p, err := NewPublisher(sql.BeginnerFromPgx(pool))
	require.NoError(t, err)
	require.NoError(t, p.Publish("Order",
		message.NewMessage(uuid.NewString(), []byte(`{"entity_type":"Order","data":1,"trace_context":"`+traceParent+`"}`)),
		message.NewMessage(uuid.NewString(), []byte(`{"entity_type":"Order","data":1}`))))
	require.JSONEq(t, `[{"traceparent": "`+traceParent+`"}, null]`,
		queryOne[string](t, pool, `select jsonb_agg(trace_context order by pk_entity_change_log)::text from core.tb_entity_change_log`))
}

func TestTheTraceContextSurvivesParkingAndTheReplayOfADeadLetter(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q, l := newQueue(t, pool, 1), deadLetters(pool)
	d := delivery("7", "shipped", "notify")
	d.Event.Trace = event.TraceContext{Parent: traceParent, State: "a=1"}
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	parked := fetchAndAck(t, q)
	require.Equal(t, d.Event.Trace, parked.Event.Trace)

	require.NoError(t, l.Put(t.Context(), parked))
	letter := onlyDeadLetter(t, l)
	got, err := l.Get(t.Context(), letter.ID)
	require.NoError(t, err)
	again, err := event.Decode(got.Event)
	require.NoError(t, err)
	require.Equal(t, d.Event.Trace, again.Trace)
}
