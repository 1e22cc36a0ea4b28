package main

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"
)

const readPage = `select pk_entity_change_log, id, object_type, modification_type, coalesce(object_key, object_id::text), object_data, object_data_before,
	tenant_id, user_id, actor_type, schema_version, extra_metadata, coalesce(seq, pk_entity_change_log), created_at
	from core.tb_entity_change_log where pk_entity_change_log > $1 order by pk_entity_change_log limit $2`

// read is the raw form of a drain: the columns that the reader reads, in pages of its size, along the primary key. Nothing
// is decoded but the key.
func read(s spec) error {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.Database)
	if err != nil {
		return err
	}
	begun, total := time.Now(), int64(0)
	for last := s.After; ; {
		n := 0
		rows, err := conn.Query(ctx, readPage, last, s.Page)
		if err != nil {
			return err
		}
		for ; rows.Next(); n++ {
			raw := rows.RawValues()
			last = int64(binary.BigEndian.Uint64(raw[0]))
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if total += int64(n); n < s.Page {
			break
		}
	}
	report{Events: total, Distinct: total, Seconds: time.Since(begun).Seconds()}.print()
	return conn.Close(ctx)
}
