package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// JSON returns the event as the JSON object that users see: what a webhook without a body_template receives.
func (e *Event) JSON() []byte {
	return e.AppendJSON(make([]byte, 0, 320+len(e.Data)+len(e.Before)+len(e.Changes)))
}

// AppendJSON appends the event's JSON to b.
func (e *Event) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), e.ID)
	b = appendString(append(b, `,"event_type":`...), string(e.Type))
	b = appendString(append(b, `,"entity_type":`...), e.Entity)
	b = appendString(append(b, `,"entity_id":`...), e.EntityID)
	b = appendRaw(append(b, `,"data":`...), e.Data)
	b = appendRaw(append(b, `,"before":`...), e.Before)
	b = appendRaw(append(b, `,"changes":`...), e.Changes)
	b = appendNullable(append(b, `,"tenant_id":`...), e.TenantID)
	b = appendNullable(append(b, `,"user_id":`...), e.UserID)
	b = append(b, `,"timestamp":"`...)
	b = e.Timestamp.UTC().AppendFormat(b, time.RFC3339Nano)
	b = strconv.AppendInt(append(b, `","seq":`...), e.Seq, 10)
	b = appendNullable(append(b, `,"source":`...), e.Source)
	b = appendNullable(append(b, `,"actor_type":`...), e.ActorType)
	b = strconv.AppendInt(append(b, `,"schema_version":`...), int64(e.SchemaVersion), 10)
	return append(b, '}')
}

func appendRaw(b []byte, raw json.RawMessage) []byte {
	if raw == nil {
		return append(b, "null"...)
	}
	return append(b, raw...)
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

// wire is the JSON form of an Event.
type wire struct {
	ID            string          `json:"id"`
	Type          Type            `json:"event_type"`
	Entity        string          `json:"entity_type"`
	EntityID      string          `json:"entity_id"`
	Data          json.RawMessage `json:"data"`
	Before        json.RawMessage `json:"before"`
	Changes       json.RawMessage `json:"changes"`
	TenantID      string          `json:"tenant_id"`
	UserID        string          `json:"user_id"`
	Timestamp     *time.Time      `json:"timestamp"`
	Seq           int64           `json:"seq"`
	Source        string          `json:"source"`
	ActorType     string          `json:"actor_type"`
	SchemaVersion int             `json:"schema_version"`
}

// Decode reads an event from its JSON. The least that it needs is entity_type and data; id (random), event_type
// (CUSTOM), entity_id (empty) and timestamp (now) have defaults. Keys it does not know are ignored, so that older
// programs read what newer ones write.
func Decode(b []byte) (*Event, error) {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	if w.Entity == "" {
		return nil, errors.New(`decode event: "entity_type" is missing`)
	}
	if w.Data == nil {
		return nil, errors.New(`decode event: "data" is missing`)
	}
	if w.Type == "" {
		w.Type = Custom
	}
	if !w.Type.Valid() {
		return nil, fmt.Errorf("decode event: event_type %q is not one of INSERT, UPDATE, DELETE, CUSTOM", w.Type)
	}
	if w.ID == "" {
		w.ID = uuid.NewString()
	}
	if w.Timestamp == nil {
		now := time.Now()
		w.Timestamp = &now
	}
	return &Event{
		ID: w.ID, Type: w.Type, Entity: w.Entity, EntityID: w.EntityID,
		Data: notNull(w.Data), Before: notNull(w.Before), Changes: notNull(w.Changes),
		TenantID: w.TenantID, UserID: w.UserID, Timestamp: *w.Timestamp, Seq: w.Seq, Source: w.Source,
		ActorType: w.ActorType, SchemaVersion: w.SchemaVersion,
	}, nil
}

func notNull(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
