package postgres

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const insertBacklog = `insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data, object_data_before)
	select 'Order', 'UPDATE', i::text, jsonb_build_object('id', i, 'status', 'shipped', 'total', i * 3, 'customer', 'customer number ' || i % 1000),
	       jsonb_build_object('id', i, 'status', 'new', 'total', i * 3, 'customer', 'customer number ' || i % 1000)
	  from generate_series(1, $1::int) i`

// BenchmarkDrain reads a backlog of 100,000 changes behind 1,000,000 that were read already, beside a bare loop over the
// same rows in pages of the same size.
func BenchmarkDrain(b *testing.B) {
	const backlog = 100_000
	h := newRig(b, testenv.Postgres(b))
	h.exec(insertBacklog, 1_000_000)
	h.exec(`vacuum analyze core.tb_entity_change_log`)
	var behind int64
	require.NoError(b, h.pool.QueryRow(b.Context(), `select max(pk_entity_change_log) from core.tb_entity_change_log`).Scan(&behind))
	lease := h.acquire()
	h.exec(insertBacklog, backlog)
	for b.Loop() {
		raw := measureRaw(b, h, behind, backlog)
		h.exec(`delete from public.tb_observer_checkpoint`)
		h.exec(`insert into public.tb_observer_checkpoint (transport_name, snapshot_from, epoch, system_identifier)
			select 'observer', (select min(tx_id)::text || ':' || min(tx_id)::text || ':' from core.tb_entity_change_log where pk_entity_change_log > $1)::pg_snapshot, 1, system_identifier::text
			  from pg_control_system()`, behind)
		r := h.reader(lease)
		begun := time.Now()
		for n := 0; n < backlog; {
			items, err := r.Fetch(b.Context(), 256)
			require.NoError(b, err)
			n += len(items)
			require.NoError(b, r.Ack(b.Context(), items))
		}
		own := backlog / time.Since(begun).Seconds()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		r.close()
		b.ReportMetric(own, "events/s")
		b.ReportMetric(raw, "raw/s")
		b.ReportMetric(own/raw, "of-raw")
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MiB")
	}
}

func measureRaw(b *testing.B, h *rig, after int64, want int) float64 {
	b.Helper()
	conn, err := pgx.ConnectConfig(b.Context(), h.pool.Config().ConnConfig.Copy())
	require.NoError(b, err)
	defer hangUp(context.Background(), conn)
	begun, n := time.Now(), 0
	for {
		rows, err := conn.Query(b.Context(), `select pk_entity_change_log, id, object_type, modification_type, object_key, object_data, object_data_before, created_at
			from core.tb_entity_change_log where pk_entity_change_log > $1 order by 1 limit 500`, after)
		require.NoError(b, err)
		page := 0
		for rows.Next() {
			page++
			var at time.Time
			require.NoError(b, rows.Scan(&after, nil, nil, nil, nil, nil, nil, &at))
		}
		require.NoError(b, rows.Err())
		if n += page; page == 0 {
			require.Equal(b, want, n)
			return float64(n) / time.Since(begun).Seconds()
		}
	}
}
