package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
)

// JSON returns the event as the JSON object that users see: what a webhook without a body_template receives. It is made
// once and shared: do not change it.
func (e *Event) JSON() []byte {
	v := &e.views.json
	v.once.Do(func() { v.text, _ = e.encode() })
	return v.text
}

// Own makes the event's JSON and lets the images be parts of it: the event keeps nothing of the memory that they were in.
// It must be called before anybody else has the event.
func (e *Event) Own() {
	v := &e.views.json
	v.once.Do(func() {
		var images [3]json.RawMessage
		v.text, images = e.encode()
		e.Data, e.Before, e.Changes = images[0], images[1], images[2]
	})
}

// encode returns the event's JSON, and where in it data, before and changes are.
func (e *Event) encode() (text []byte, images [3]json.RawMessage) {
	b := make([]byte, 0, 320+len(e.Data)+len(e.Before)+len(e.Changes))
	b = appendString(append(b, `{"id":`...), e.ID)
	b = appendString(append(b, `,"event_type":`...), string(e.Type))
	b = appendString(append(b, `,"entity_type":`...), e.Entity)
	b = appendString(append(b, `,"entity_id":`...), e.EntityID)
	b, images[0] = appendImage(append(b, `,"data":`...), e.Data)
	b, images[1] = appendImage(append(b, `,"before":`...), e.Before)
	b, images[2] = appendImage(append(b, `,"changes":`...), e.Changes)
	b = appendNullable(append(b, `,"tenant_id":`...), e.TenantID)
	b = appendNullable(append(b, `,"user_id":`...), e.UserID)
	b = append(b, `,"timestamp":"`...)
	b = e.Timestamp.UTC().AppendFormat(b, time.RFC3339Nano)
	b = strconv.AppendInt(append(b, `","seq":`...), e.Seq, 10)
	b = appendNullable(append(b, `,"source":`...), e.Source)
	b = appendNullable(append(b, `,"actor_type":`...), e.ActorType)
	b = strconv.AppendInt(append(b, `,"schema_version":`...), int64(e.SchemaVersion), 10)
	if e.Trace.Parent != "" {
		b = append(append(b, `,"trace_context":`...), e.Trace.JSON()...)
	}
	return slices.Clip(append(b, '}')), images // clipped, so that who appends gets a copy
}

// appendImage appends raw and returns the copy as well, nil for null.
func appendImage(b []byte, raw json.RawMessage) (_ []byte, kept json.RawMessage) {
	if raw == nil {
		return append(b, "null"...), nil
	}
	n := len(b)
	b = append(b, raw...)
	return b, json.RawMessage(b[n:len(b):len(b)])
}

func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

// appendString writes plain ASCII directly, which is what ids and names are; the rest goes the long way.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			long, _ := json.Marshal(s) // a string always marshals
			return append(b, long...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Decode reads an event from its JSON. The least that it needs is entity_type and data; id (random), event_type
// (CUSTOM), entity_id (empty) and timestamp (now) have defaults, and the changes of an UPDATE are computed where both of
// its images are there and they are not. Keys it does not know are ignored, so that older programs read what newer ones
// write.
func Decode(b []byte) (*Event, error) {
	e := &Event{}
	dated, err := e.fill(b)
	if e.Type == "" {
		e.Type = Custom
	}
	switch year := e.Timestamp.UTC().Year(); {
	case err != nil:
		return nil, fmt.Errorf("decode event: %w", err)
	case e.Entity == "":
		return nil, errors.New(`decode event: "entity_type" is missing`)
	case e.Data == nil:
		return nil, errors.New(`decode event: "data" is missing`)
	case !e.Type.Valid():
		return nil, fmt.Errorf("decode event: event_type %q is not one of INSERT, UPDATE, DELETE, CUSTOM", e.Type)
	case strings.ContainsFunc(e.ID, unicode.IsControl): // it becomes a header
		return nil, errors.New(`decode event: "id" holds control characters`)
	case year < 0 || year > 9999: // RFC 3339 ends there
		return nil, errors.New(`decode event: "timestamp" is not within the years 0 to 9999 in UTC`)
	}
	e.Data = notNull(e.Data)
	if e.Type == Update && e.Changes == nil {
		e.Changes = Diff(compact(e.Before), compact(e.Data))
	}
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	if !dated {
		e.Timestamp = time.Now()
	}
	return e, nil
}

// fill sets what b gives, by the exact names of the keys; package json would take them in any case of letters. It reports
// whether the timestamp is given.
func (e *Event) fill(b []byte) (dated bool, err error) {
	if !utf8.Valid(b) {
		return false, errors.New("its text is not UTF-8")
	}
	if !valid(b) {
		return false, json.Unmarshal(b, new(any)) // it says what is wrong
	}
	doc := gjson.ParseBytes(b)
	if !doc.IsObject() {
		return false, errors.New("it is no JSON object")
	}
	doc.ForEach(func(k, value gjson.Result) bool {
		key := keyText(k)
		if value.Type == gjson.Null && key != "data" {
			return true
		}
		if err = e.set(key, value); err != nil {
			err = fmt.Errorf("%q %w", key, err)
		}
		dated = dated || key == "timestamp"
		return err == nil
	})
	return dated, err
}

// maxDepth is how deep package json lets values nest.
const maxDepth = 10_000

// valid is json.Valid, several times as fast for what is valid: gjson does not bound how deep values nest.
func valid(b []byte) bool {
	opened := bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("["))
	return opened <= maxDepth && gjson.ValidBytes(b) || json.Valid(b)
}

func (e *Event) set(key string, value gjson.Result) (err error) {
	switch key {
	case "id":
		return setText(&e.ID, value)
	case "event_type":
		return setText((*string)(&e.Type), value)
	case "entity_type":
		return setText(&e.Entity, value)
	case "entity_id":
		return setText(&e.EntityID, value)
	case "data":
		e.Data = json.RawMessage(value.Raw)
	case "before":
		e.Before = json.RawMessage(value.Raw)
	case "changes":
		e.Changes = json.RawMessage(value.Raw)
	case "tenant_id":
		return setText(&e.TenantID, value)
	case "user_id":
		return setText(&e.UserID, value)
	case "timestamp":
		if e.Timestamp, err = time.Parse(time.RFC3339, Text(value.Raw)); err != nil {
			return errors.New("is not a time as in RFC 3339, such as 2026-01-31T12:00:00Z")
		}
	case "seq":
		e.Seq, err = integer(value, 64)
	case "source":
		return setText(&e.Source, value)
	case "actor_type":
		return setText(&e.ActorType, value)
	case "schema_version":
		var version int64
		version, err = integer(value, 32) // as in the log
		e.SchemaVersion = int(version)
	case "trace_context":
		e.Trace = ParseTraceContext(value.Raw)
	}
	return err
}

func setText(to *string, value gjson.Result) error {
	if value.Type != gjson.String {
		return errors.New("is not a string")
	}
	*to = Text(value.Raw)
	return nil
}

func integer(value gjson.Result, bits int) (int64, error) {
	n, err := strconv.ParseInt(value.Raw, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("is not an integer of %d bits", bits)
	}
	return n, nil
}

// compact makes equal values equal text, as far as [Diff] needs it.
func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if raw == nil || json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

func notNull(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
