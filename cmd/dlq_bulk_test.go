package cmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// wholeTables is every byte of dead letters and parked deliveries, with the versions and locks of their rows.
func wholeTables(t *testing.T, db *pgx.Conn) string {
	t.Helper()
	return one[string](t, db, `select coalesce((select string_agg(d.ctid::text || d.xmin || d.xmax || d::text, E'\n' order by d.ctid) from core.tb_observer_dead_letter d), '')
		|| E'\n--\n' || coalesce((select string_agg(r.ctid::text || r.xmin || r.xmax || r::text, E'\n' order by r.ctid) from core.tb_observer_retry r), '')`)
}

// cemetery has dead letters of two observers: one of each that can be delivered again, one of a second class, one that is
// being delivered, and one that holds nothing.
func cemetery(t *testing.T) (cfg string, db *pgx.Conn) {
	t.Helper()
	cfg, db = database(t)
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for i, observer := range []string{"shipped", "shipped", "paid", "paid", "paid"} {
		bury(t, db, observer, noon.Add(time.Duration(i)*time.Hour))
	}
	run(t, db, `update core.tb_observer_dead_letter set error_class = 'http_410' where pk_observer_dead_letter = 2`)
	run(t, db, `update core.tb_observer_dead_letter set error_class = 'unreadable' where pk_observer_dead_letter = 5`)
	succeeds(t, "dlq", "retry", "4", "--config", cfg)
	return cfg, db
}

// answering is an option: a person sits at a terminal.
func answering(p *program) error {
	p.atTerminal = func() bool { return true }
	return nil
}

func TestADryRunOfRetryAllCountsAndChangesNothing(t *testing.T) {
	t.Parallel()
	cfg, db := cemetery(t)
	before := wholeTables(t, db)
	r := observer(t, "", "dlq", "retry-all", "--dry-run", "--config", cfg)
	require.Zero(t, r.code, r.err)
	require.Equal(t, `OBSERVER  ACTION  CLASS     COUNT
paid      notify  status    1
shipped   notify  http_410  1
shipped   notify  status    1
`, r.out)
	require.Contains(t, r.err, "would have parked 3 dead letters; 1 are being delivered again already; 1 hold nothing that could be delivered\n")
	require.Contains(t, r.err, "declares no enabled observer paid with an action notify")
	require.Equal(t, 1, strings.Count(r.err, "observer shipped"), "one warning an action: %s", r.err)

	require.JSONEq(t, `{"dry_run": true, "items": [{"observer": "shipped", "action": "notify", "error_class": "status", "count": 1}],
		"total": 1, "done": 0, "retrying": 1, "not_replayable": 1}`,
		succeeds(t, "dlq", "retry-all", "--dry-run", "--yes", "--limit", "1", "--config", cfg, "--format", "json"))
	require.Contains(t, observer(t, "", "dlq", "remove", "--all", "--dry-run", "--config", cfg).err, "would have removed 4 dead letters; 1 are being delivered again already\n")
	require.Contains(t, succeeds(t, "dlq", "remove", "4", "--dry-run", "--config", cfg), "would remove dead letter 4: event ")
	require.Equal(t, before, wholeTables(t, db), "to the byte")
}

func TestRetryAllParksWhatIsSelected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want []int64 // dead letters, in the order of the queue
	}{
		"all":                     {nil, []int64{1, 2, 3}},
		"of an observer":          {[]string{"--observer", "shipped"}, []int64{1, 2}},
		"of a class":              {[]string{"--class", "http_410"}, []int64{2}},
		"after a time":            {[]string{"--after", "2026-01-31T12:00:00Z"}, []int64{2, 3}},
		"before a time":           {[]string{"--before", "2026-01-31T13:00:00Z"}, []int64{1}},
		"those that failed first": {[]string{"--limit", "2"}, []int64{1, 2}},
		"none":                    {[]string{"--observer", "nobody"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, db := cemetery(t)
			out := succeeds(t, append([]string{"dlq", "retry-all", "--yes", "--format", "json", "--config", cfg}, test.args...)...)
			var report bulkReport
			require.NoError(t, json.Unmarshal([]byte(out), &report))
			require.Equal(t, len(test.want), report.Done)
			require.Equal(t, test.want, one[[]int64](t, db, `select array_agg(pk_observer_dead_letter order by r.not_before, r.pk_observer_retry)
				from core.tb_observer_retry r join core.tb_observer_dead_letter d using (listener, event_id, observer, action) where pk_observer_dead_letter <> 4`))
		})
	}
}

func TestRetryAllTellsWhoDelivers(t *testing.T) {
	t.Parallel()
	cfg, db := cemetery(t)
	r := observer(t, "", "dlq", "retry-all", "--yes", "--observer", "shipped", "--config", cfg)
	require.Zero(t, r.code, r.err)
	require.Empty(t, r.out)
	require.Contains(t, r.err, "parked 2 dead letters\n")
	require.Contains(t, r.err, "no process leads observer now")
	run(t, db, `insert into core.tb_observer_lease (name, owner, generation, expires_at) values ('observer', 'somebody', 1, clock_timestamp() + interval '1 hour')`)
	r = observer(t, "", "dlq", "retry-all", "--yes", "--config", cfg)
	require.Contains(t, r.err, "parked 1 dead letters; 3 are being delivered again already; 1 hold nothing")
	require.NotContains(t, r.err, "no process leads")
}

func TestWhoChangesManyDeadLettersIsAsked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer  string
		options []Option
		code    int
		says    string
	}{
		"a yes":                {"y\n", []Option{answering}, exitOK, "3 dead letters? [y/N] "},
		"a no":                 {"n\n", []Option{answering}, exitRuntime, "nothing was changed"},
		"no answer":            {"", []Option{answering}, exitRuntime, "nothing was changed"},
		"nobody can be asked ": {"y\n", nil, exitUsage, "add --yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, db := cemetery(t)
			before := wholeTables(t, db)
			r := observerWith(t, test.answer, test.options, "dlq", "retry-all", "--config", cfg)
			require.Equal(t, test.code, r.code, r.err)
			require.Contains(t, r.err, test.says)
			require.Equal(t, test.code != exitOK, before == wholeTables(t, db))
		})
	}
	t.Run("before one is removed, at a terminal", func(t *testing.T) {
		t.Parallel()
		cfg, db := cemetery(t)
		before := wholeTables(t, db)
		require.Equal(t, exitRuntime, observerWith(t, "n\n", []Option{answering}, "dlq", "remove", "1", "--config", cfg).code)
		require.Equal(t, before, wholeTables(t, db))
		require.Zero(t, observerWith(t, "n\n", []Option{answering}, "dlq", "remove", "1", "--yes", "--config", cfg).code)
		require.NotEqual(t, before, wholeTables(t, db))
	})
}

func TestADeadLetterIsRemoved(t *testing.T) {
	t.Parallel()
	cfg, db := cemetery(t)
	event := one[string](t, db, `select event_id from core.tb_observer_dead_letter where pk_observer_dead_letter = 1`)
	r := observer(t, "", "dlq", "remove", "1", "--config", cfg)
	require.Zero(t, r.code, r.err)
	require.Empty(t, r.out)
	require.Equal(t, "removed dead letter 1: event "+event+" of Order for shipped/notify\n", r.err)
	require.Equal(t, exitRuntime, observer(t, "", "dlq", "show", "1", "--config", cfg).code)

	r = observer(t, "", "dlq", "remove", "4", "--format", "json", "--config", cfg)
	require.Contains(t, r.err, ", and its parked replay\n")
	require.Contains(t, r.out, "12345678901234567890", "what is removed can be kept")
	require.Zero(t, one[int](t, db, `select count(*) from core.tb_observer_retry`))

	r = observer(t, "", "dlq", "remove", "--all", "--yes", "--observer", "paid", "--format", "json", "--config", cfg)
	require.Contains(t, r.err, "removed 2 dead letters\n")
	require.JSONEq(t, `{"dry_run": false, "items": [{"observer": "paid", "action": "notify", "error_class": "status", "count": 1},
		{"observer": "paid", "action": "notify", "error_class": "unreadable", "count": 1}], "total": 2, "done": 2, "retrying": 0, "not_replayable": 0}`, r.out)
	require.Equal(t, 1, one[int](t, db, `select count(*) from core.tb_observer_dead_letter`))
}

func TestDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	cfg, _ := cemetery(t)
	r := observer(t, "", "dlq", "stats", "--config", cfg)
	require.Zero(t, r.code, r.err)
	require.Equal(t, `OBSERVER  ACTION  CLASS       COUNT  RETRYING  OLDEST                NEWEST
paid      notify  status      2      1         2026-01-31T13:59:00Z  2026-01-31T15:00:00Z
paid      notify  unreadable  1      0         2026-01-31T15:59:00Z  2026-01-31T16:00:00Z
shipped   notify  http_410    1      0         2026-01-31T12:59:00Z  2026-01-31T13:00:00Z
shipped   notify  status      1      0         2026-01-31T11:59:00Z  2026-01-31T12:00:00Z
`, r.out)
	require.Equal(t, "5 dead letters\n", r.err)
	require.JSONEq(t, `{"items": [{"observer": "paid", "action": "notify", "error_class": "status", "count": 2, "retrying": 1, "not_replayable": 0,
		"oldest": "2026-01-31T13:59:00Z", "newest": "2026-01-31T15:00:00Z"}], "total": 2}`,
		succeeds(t, "dlq", "stats", "--observer", "paid", "--class", "status", "--config", cfg, "--format", "json"))
	require.JSONEq(t, `{"items": [], "total": 0}`, succeeds(t, "dlq", "stats", "--observer", "nobody", "--config", cfg, "--format", "json"))
}
