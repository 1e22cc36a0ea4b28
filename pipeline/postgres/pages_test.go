package postgres

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestRowsOfFiveMegabytesDoNotFillTheMemory(t *testing.T) { // alone: it measures the heap
	h := newTestRig(t)
	lease := h.acquire()
	const rows = 60
	h.exec(`insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data)
		select 'Order', 'INSERT', i::text, case i % 3
			when 0 then jsonb_build_object('n', i)
			when 1 then jsonb_build_object('text', repeat('x', 5000000))
			else jsonb_build_object('text', (select string_agg(md5(i::text || j), '') from generate_series(1, 40000) j)) end
		  from generate_series(1, $1::int) i`, rows)
	r := h.reader(lease)
	var got []string
	var peak uint64
	for len(got) < rows {
		items := r.take(1)
		got = append(got, keys(items)...)
		e := event.OfContext(items[0].Msg.Context())
		require.True(t, json.Valid(e.Data))
		r.ack(items...)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
	}
	require.Equal(t, numbers(1, rows), got)
	r.none()
	r.close()
	t.Logf("heap in use at most %d MiB", peak>>20)
	require.Less(t, peak, uint64(200<<20))
}

// TestThePlanOfAProbeIsMadeForALongLog keeps a plan that was made while the log was empty, and never analyzed, from reading the
// whole log for each probe later.
func TestThePlanOfAProbeIsMadeForALongLog(t *testing.T) {
	t.Parallel()
	h := newRig(t, testenv.Postgres(t))
	conn, err := h.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	q := newQueries(allTopics)
	_, err = conn.Exec(t.Context(), readingSettings+"; prepare probe as "+q.of(500).probe)
	require.NoError(t, err)
	const now = `execute probe('1000000000', '{}', 'observer')`
	_, err = conn.Exec(t.Context(), now)
	require.NoError(t, err)
	h.exec(insertBacklog, 5_000)
	require.Less(t, blocksRead(t, conn.Conn(), now), 20, "of some hundred that the log has")
}

// blocksRead returns how many blocks a statement looked at.
func blocksRead(t *testing.T, conn *pgx.Conn, statement string) int {
	t.Helper()
	var plan []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	require.NoError(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+statement).Scan(&plan))
	return plan[0].Plan.Hit + plan[0].Plan.Read
}

// TestPlansKeepToTheirIndexes is on statistics that mislead: one transaction wrote all that was analyzed.
func TestPlansKeepToTheirIndexes(t *testing.T) {
	t.Parallel()
	h := newRig(t, testenv.Postgres(t))
	h.exec(insertBacklog, 50_000)
	h.exec(`analyze core.tb_entity_change_log`)
	for range 3 {
		h.exec(insertBacklog, 100)
	}
	// The tests of the package share a cluster, whose ids go on meanwhile.
	var first, second, next string
	require.NoError(t, h.pool.QueryRow(t.Context(), `select min(tx_id)::text, max(tx_id)::text, pg_snapshot_xmax(pg_current_snapshot())::text
		from core.tb_entity_change_log where pk_entity_change_log > 50000`).Scan(&first, &second, &next))
	q := newQueries(allTopics)
	for name, tc := range map[string]struct {
		sql    string
		args   []any
		want   []string
		forbid []string
	}{
		"probe": {
			q.of(500).probe,
			[]any{next, "{" + first + "," + second + "}", "observer"},
			[]string{"Index Cond: (tx_id >= $1)", "Index Cond: ((tx_id >= x.id) AND (tx_id <= x.id))"},
			[]string{"Seq Scan on tb_entity_change_log", "tb_entity_change_log_pkey"},
		},
		"page": {
			q.of(500).page,
			[]any{second + ":" + second + ":", "{" + first + "}", int64(1000), next + ":" + next + ":", int64(1)},
			[]string{"using tb_entity_change_log_pkey", "Index Cond: ((tx_id >= x.id) AND (tx_id <= x.id)"},
			[]string{"Seq Scan on tb_entity_change_log"},
		},
		"floor": {floorSQL(first), nil, []string{"idx_entity_change_log_tx"}, []string{"Seq Scan"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := h.pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			var literals []string
			for _, arg := range tc.args {
				literals = append(literals, fmt.Sprintf("'%v'", arg))
			}
			explain := "explain " + tc.sql
			if len(literals) > 0 { // as the reader does it: one plan for all arguments
				_, err = conn.Exec(t.Context(), readingSettings+"; prepare "+name+" as "+tc.sql)
				require.NoError(t, err)
				explain = "explain execute " + name + "(" + strings.Join(literals, ", ") + ")"
			}
			rows, err := conn.Query(t.Context(), explain)
			require.NoError(t, err)
			var plan strings.Builder
			for rows.Next() {
				var line string
				require.NoError(t, rows.Scan(&line))
				plan.WriteString(line + "\n")
			}
			require.NoError(t, rows.Err())
			for _, want := range tc.want {
				require.Contains(t, plan.String(), want)
			}
			for _, no := range tc.forbid {
				require.NotContains(t, plan.String(), no)
			}
		})
	}
}
