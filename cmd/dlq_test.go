package cmd

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/postgres"
)

// bury stores a dead letter that failed at a time.
func bury(t *testing.T, db *pgx.Conn, observer string, at time.Time) string {
	t.Helper()
	id := uuid.NewString()
	letters := postgres.DeadLetters{DB: db, Listener: "observer"}
	require.NoError(t, letters.Put(t.Context(), &event.Delivery{
		Event:    &event.Event{ID: id, Type: event.Insert, Entity: "Order", EntityID: "7", Data: json.RawMessage(`{"total": 12345678901234567890}`), Timestamp: at},
		Observer: observer, Action: "notify",
		Attempts: []event.Attempt{
			{At: at.Add(-time.Minute), Error: "receiver answered 503", Class: "status"},
			{At: at, Error: "receiver answered 500\n\x1b[31mred", Class: "status"},
		},
	}))
	return id
}

func TestDeadLettersAreListed(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	events := []string{bury(t, db, "shipped", noon), bury(t, db, "shipped", noon.Add(time.Hour)), bury(t, db, "paid", noon.Add(2*time.Hour))}

	for name, test := range map[string]struct {
		args  []string
		want  []string // events
		total int
	}{
		"all, latest first": {nil, []string{events[2], events[1], events[0]}, 3},
		"of an observer":    {[]string{"--observer", "shipped"}, []string{events[1], events[0]}, 2},
		"after a time":      {[]string{"--after", "2026-01-31T12:30:00Z"}, []string{events[2], events[1]}, 2},
		"a page":            {[]string{"--limit", "1", "--offset", "1"}, []string{events[1]}, 3},
		"before a time":     {[]string{"--before", "2026-01-31T12:30:00Z"}, []string{events[0]}, 1},
		"of another class":  {[]string{"--class", "http_410"}, []string{}, 0},
		"of a class":        {[]string{"--class", "status", "--observer", "paid"}, []string{events[2]}, 1},
		"none":              {[]string{"--observer", "nobody"}, []string{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var listed list[map[string]any]
			out := succeeds(t, append([]string{"dlq", "list", "--config", cfg, "--format", "json"}, test.args...)...)
			require.NoError(t, json.Unmarshal([]byte(out), &listed))
			require.Equal(t, test.total, listed.Total)
			got := []string{}
			for _, item := range listed.Items {
				got = append(got, item["event_id"].(string))
				for _, key := range []string{"id", "observer", "action", "entity", "attempts", "error", "error_class", "first_failed_at", "last_failed_at"} {
					require.Contains(t, item, key)
				}
			}
			require.Equal(t, test.want, got)
		})
	}
	t.Run("as a table that an error cannot disturb", func(t *testing.T) {
		t.Parallel()
		r := observer(t, "", "dlq", "list", "--observer", "paid", "--config", cfg)
		require.Zero(t, r.code)
		require.Regexp(t, `^ID +OBSERVER +ACTION +ENTITY +ATTEMPTS +LAST FAILED +STATE +NEXT ATTEMPT +CLASS +ERROR
\d+ +paid +notify +Order +2 +2026-01-31T14:00:00Z +dead +- +status +receiver answered 500  \[31mred
$`, r.out)
		require.Equal(t, "1 of 1 dead letters\n", r.err)
	})
}

func TestADeadLetterIsShownAndRetried(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	eventID := bury(t, db, "shipped", time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	id := strconv.FormatInt(one[int64](t, db, `select pk_observer_dead_letter from core.tb_observer_dead_letter`), 10)
	parked := func() int {
		return one[int](t, db, `select count(*) from core.tb_observer_retry where event_id = $1`, eventID)
	}

	text := succeeds(t, "dlq", "show", id, "--config", cfg)
	require.Contains(t, text, "attempt 1  2026-01-31T11:59:00Z  status  receiver answered 503\n")
	require.Contains(t, text, "12345678901234567890")
	require.NotContains(t, text, "\x1b")
	var letter deadletter.Letter
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "dlq", "show", id, "--config", cfg, "--format", "json")), &letter))
	require.Equal(t, eventID, letter.EventID)
	require.Len(t, letter.History, 2)

	require.Equal(t, "would deliver event "+eventID+" of Order to shipped/notify again\n", succeeds(t, "dlq", "retry", id, "--dry-run", "--config", cfg))
	require.Zero(t, parked(), "a dry run changes nothing")

	succeeds(t, "dlq", "retry", id, "--config", cfg)
	require.Equal(t, 1, parked())
	again := observer(t, "", "dlq", "retry", id, "--config", cfg)
	require.Zero(t, again.code)
	require.Contains(t, again.err, "already")
	require.Equal(t, 1, parked())
	require.Regexp(t, `retrying +due +status +receiver answered 500`, succeeds(t, "dlq", "list", "--config", cfg))
	require.Contains(t, observer(t, "", "dlq", "retry", id, "--dry-run", "--config", cfg).err, "already")

	run(t, db, `update core.tb_observer_retry set not_before = '2100-01-01Z', attempts = attempts || '[{"at": "2026-02-01T00:00:00Z", "error": "refused", "class": "refused", "generation": 1}]'`)
	text = succeeds(t, "dlq", "show", id, "--config", cfg)
	require.Regexp(t, `next attempt +2100-01-01T00:00:00Z\nlast error +refused\nlast class +refused\n`, text)
	require.Contains(t, text, "attempt 3  replay 1  2026-02-01T00:00:00Z  refused  refused\n")
	require.Regexp(t, `retrying +2100-01-01T00:00:00Z +refused +refused\n`, succeeds(t, "dlq", "list", "--config", cfg))
}

func TestRetryTellsWhatIsGoingToHappen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		leads              bool
		listener, declared string
		want, warning      string
	}{
		"while a process leads": {true, "observer", "shipped", "is parked: a process of observer delivers it now\n", ""},
		"while none leads":      {false, "observer", "shipped", "is parked: a process of observer delivers it, and none works now\n", ""},
		"when its observer is not declared": {
			true, "observer", "paid", "delivers it now\n",
			"warning: the configuration file declares no enabled observer shipped with an action notify",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, db := database(t)
			content, err := os.ReadFile(cfg)
			require.NoError(t, err)
			cfg = file(t, "observer.toml", string(content)+`
[[observers]]
name = "`+test.declared+`"
entity = "Order"
[[observers.actions]]
type = "log"
name = "notify"
message_template = "x"
`)
			bury(t, db, "shipped", time.Now())
			if test.leads {
				run(t, db, `insert into core.tb_observer_lease (name, owner, generation, expires_at) values ('observer', 'somebody', 1, clock_timestamp() + interval '1 hour')`)
			}
			r := observer(t, "", "dlq", "retry", "1", "--config", cfg)
			require.Zero(t, r.code, r.err)
			require.Contains(t, r.err, test.want)
			require.Contains(t, r.err, test.warning)
			require.Equal(t, test.warning != "", strings.Contains(r.err, "warning"), r.err)
		})
	}
}

func TestAWholeEventIsDeliveredAgainToWhoMatchesIt(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	id := bury(t, db, "", time.Now())
	run(t, db, `update core.tb_observer_dead_letter set action = ''`)
	require.Equal(t, "would deliver event "+id+" of Order to the observers that match it again\n", succeeds(t, "dlq", "retry", "1", "--dry-run", "--config", cfg))
	r := observer(t, "", "dlq", "retry", "1", "--config", cfg)
	require.Zero(t, r.code)
	require.NotContains(t, r.err, "warning")
}

func TestADeadLetterWithoutDataIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	bury(t, db, "", time.Now())
	run(t, db, `update core.tb_observer_dead_letter set action = '', error_class = 'unreadable', error = 'the change was captured without its data: x'`)
	for _, more := range [][]string{nil, {"--dry-run"}} {
		r := observer(t, "", append([]string{"dlq", "retry", "1", "--config", cfg}, more...)...)
		require.Equal(t, exitRuntime, r.code)
		require.Contains(t, r.err, "the change was captured without its data")
		require.Empty(t, r.out)
	}
}

func TestADeadLetterThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	cfg, _ := database(t)
	for _, args := range [][]string{{"show", "999"}, {"retry", "999"}, {"retry", "999", "--dry-run"}, {"remove", "999"}, {"remove", "999", "--dry-run"}} {
		r := observer(t, "", append(append([]string{"dlq"}, args...), "--config", cfg)...)
		require.Equal(t, exitRuntime, r.code)
		require.Contains(t, r.err, "dead letter 999: not found")
	}
}
