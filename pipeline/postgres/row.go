package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// pageMemory bounds a page. A page of n rows leaves out what is larger on disk than the n-th part of it, and ends there.
// What is compressed on disk can be much larger in memory: beyond the bound the rest of a page is read past.
const pageMemory = 8 << 20

// room is how large on disk a row of a page of limit rows may be: a page of one row holds any.
func room(limit int) int {
	if limit == 1 {
		return math.MaxInt32
	}
	return pageMemory / limit
}

// Columns of [outputs], and what a probe adds to them.
const (
	colPK = iota
	colID
	colEntity
	colType
	colKey
	colData
	colBefore
	colTenant
	colUser
	colActor
	colVersion
	colExtra
	colTrace
	colSeq
	colTime
	colCut
	colSnapshot
	colEpoch
)

// asText asks for every column as text (one format stands for all), which is what it becomes anyway, and what all ways
// to query have in common.
var asText = pgx.QueryResultFormats{pgx.TextFormatCode}

// row is one row of the change log as a message.
type row struct {
	pk   int64
	id   string
	at   time.Time
	size int
	msg  *message.Message
}

// page is what one statement read.
type page struct {
	rows  []row
	total int  // rows that were found
	cut   bool // not all of them are in rows: they are too large for one page
	// A probe gives these as well.
	snapshot snapshot
	epoch    *int64
}

// decoder makes messages of rows.
type decoder struct {
	source string
	names  map[string]string // entity and actor names, of which there are few
}

func newDecoder(source string) *decoder {
	return &decoder{source: source, names: map[string]string{}}
}

// read reads the rows of one statement. It fails rather than returns a page that is incomplete or out of order.
func (d *decoder) read(rows pgx.Rows, limit int) (page, error) {
	defer rows.Close()
	p := page{rows: make([]row, 0, limit)}
	size, last := 0, int64(-1)
	for rows.Next() {
		raw := rows.RawValues()
		if len(raw) > colSnapshot && raw[colSnapshot] != nil {
			if err := p.head(raw); err != nil {
				return page{}, err
			}
			continue
		}
		p.total++
		if p.cut = p.cut || string(raw[colCut]) == "t" || size >= pageMemory; p.cut {
			continue
		}
		r, err := d.row(raw)
		if err != nil {
			return page{}, err
		}
		if r.pk <= last {
			return page{}, fmt.Errorf("row %d came after row %d", r.pk, last)
		}
		last, size = r.pk, size+r.size
		p.rows = append(p.rows, r)
	}
	return p, rows.Err()
}

// last returns the last row of the page, or what was the last before it.
func (p *page) last(before int64) int64 {
	if len(p.rows) == 0 {
		return before
	}
	return p.rows[len(p.rows)-1].pk
}

func (p *page) head(raw [][]byte) error {
	p.snapshot = snapshot(raw[colSnapshot])
	if raw[colEpoch] == nil {
		return nil
	}
	epoch, err := strconv.ParseInt(string(raw[colEpoch]), 10, 64)
	p.epoch = &epoch
	return err
}

func (d *decoder) row(raw [][]byte) (row, error) {
	pk, err1 := strconv.ParseInt(string(raw[colPK]), 10, 64)
	seq, err2 := strconv.ParseInt(string(raw[colSeq]), 10, 64)
	micros, err3 := strconv.ParseInt(string(raw[colTime]), 10, 64)
	version, err4 := parseInt(raw[colVersion])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return row{}, fmt.Errorf("row %s: %w", raw[colPK], err)
	}
	data, before := json.RawMessage(raw[colData]), json.RawMessage(raw[colBefore]) // until the next row
	e := &event.Event{
		ID: string(raw[colID]), Type: eventType(raw[colType]), Entity: d.name(raw[colEntity]), EntityID: string(raw[colKey]),
		Data: data, Before: before, TenantID: string(raw[colTenant]), UserID: string(raw[colUser]), Timestamp: time.UnixMicro(micros).UTC(),
		Seq: seq, Source: d.source, ActorType: d.name(raw[colActor]), SchemaVersion: version,
	}
	if raw[colTrace] != nil {
		e.Trace = event.ParseTraceContext(string(raw[colTrace]))
	}
	switch {
	case e.Type == event.Delete && before != nil:
		e.Data = before
	case e.Type == event.Update && before != nil && data != nil:
		e.Changes = event.Diff(before, data)
	}
	msg := d.message(e, raw[colExtra])
	return row{pk: pk, id: e.ID, at: e.Timestamp, size: len(msg.Payload), msg: msg}, nil
}

func (d *decoder) message(e *event.Event, extra []byte) *message.Message {
	if extra != nil {
		if msg, opaque := restoreMessage(extra); opaque {
			return msg
		}
		if source := gjson.GetBytes(extra, "source").String(); source != "" {
			e.Source = source
		}
	}
	e.Own()
	msg := message.NewMessage(e.ID, e.JSON())
	msg.SetContext(event.WithEvent(context.Background(), e))
	if !e.Type.Valid() {
		msg.Metadata.Set(window.MetadataPoison, fmt.Sprintf("modification_type %q is not one of INSERT, UPDATE, DELETE, CUSTOM", string(e.Type)))
	}
	if extra != nil {
		for key, value := range restoreMetadata(extra) {
			msg.Metadata.Set(key, value)
		}
		if problem := gjson.GetBytes(extra, "capture_error"); problem.Exists() {
			msg.Metadata.Set(window.MetadataPoison, "the change was captured without its data: "+problem.String())
		}
	}
	return msg
}

// maxNames keeps a log with endless entity names from filling the memory.
const maxNames = 10_000

func (d *decoder) name(raw []byte) string {
	if name, ok := d.names[string(raw)]; ok || len(raw) == 0 {
		return name
	}
	name := string(raw)
	if len(d.names) < maxNames {
		d.names[name] = name
	}
	return name
}

func eventType(raw []byte) event.Type {
	for _, t := range [...]event.Type{event.Insert, event.Update, event.Delete, event.Custom} {
		if string(raw) == string(t) {
			return t
		}
	}
	return event.Type(raw)
}

func parseInt(raw []byte) (int, error) {
	if raw == nil {
		return 0, nil
	}
	return strconv.Atoi(string(raw))
}
