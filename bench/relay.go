package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// readImages is polled: it loses what commits late, since a least consumer does not look for it.
const readImages = `select pk_entity_change_log, object_data, object_data_before
	from core.tb_entity_change_log where pk_entity_change_log > $1 order by pk_entity_change_log limit $2`

// relay is the least consumer: it polls the log by its key, posts both images with Go's own client, and keeps no promise. It
// runs until it is stopped.
func relay(s spec) error {
	group, ctx := errgroup.WithContext(context.Background())
	conn, err := pgx.Connect(ctx, s.Database)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.Workers, DisableCompression: true}}
	bodies := make(chan []byte, s.Page)
	for range s.Workers {
		group.Go(func() error {
			for body := range bodies {
				if err := postOne(ctx, client, s.URL, body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for last := int64(0); ; {
			n := 0
			rows, err := conn.Query(ctx, readImages, last, s.Page)
			if err != nil {
				return err
			}
			for ; rows.Next(); n++ {
				raw := rows.RawValues()
				last = int64(binary.BigEndian.Uint64(raw[0]))
				bodies <- bytes.Join([][]byte{[]byte(`{"data":`), image(raw[1]), []byte(`,"before":`), image(raw[2]), []byte(`}`)}, nil)
			}
			if err := rows.Err(); err != nil {
				return err
			}
			if n == 0 {
				<-time.After(2 * time.Millisecond)
			}
		}
	})
	return group.Wait()
}

// image is the JSON of a jsonb value as the server sends it.
func image(raw []byte) []byte {
	if raw == nil {
		return []byte("null")
	}
	return raw[1:] // after its version
}
