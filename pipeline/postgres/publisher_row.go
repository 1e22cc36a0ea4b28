package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
)

// logRow is one row to insert; nil is null.
type logRow struct {
	id, objectID, key, data, before, tenant, user, actor, at, extra, trace *string

	kind    string
	version *int32
	seq     *int64
}

// rowOf decides whether a message is an event or travels as it is.
func rowOf(topic string, msg *message.Message) (logRow, error) {
	e, err := event.Decode(msg.Payload)
	if err != nil {
		return opaqueRow(msg)
	}
	if e.Entity != topic {
		return logRow{}, fmt.Errorf("the event's entity_type is %q: the topic must be the same", e.Entity)
	}
	return eventRow(e, msg)
}

func opaqueRow(msg *message.Message) (logRow, error) {
	payload := []byte(msg.Payload)
	if payload == nil {
		payload = []byte{}
	}
	extra, err := json.Marshal(carried{Watermill: &carriedMessage{UUID: msg.UUID, Metadata: msg.Metadata, Payload: &payload}})
	return logRow{id: uuidText(msg.UUID), kind: string(event.Custom), extra: text(string(extra))}, err
}

func eventRow(e *event.Event, msg *message.Message) (logRow, error) {
	row := logRow{
		id: uuidText(msg.UUID), kind: string(e.Type), key: text(e.EntityID), objectID: uuidText(e.EntityID),
		data: text(string(e.Data)), before: text(string(e.Before)), tenant: uuidText(e.TenantID), user: text(e.UserID), actor: text(e.ActorType),
		trace: text(e.Trace.JSON()),
	}
	if gjson.GetBytes(msg.Payload, "id").String() != "" { // else Decode made it up, and the message's own is better
		if row.id = uuidText(e.ID); row.id == nil {
			return logRow{}, fmt.Errorf("the event's id %q is no uuid", e.ID)
		}
	}
	if e.TenantID != "" && row.tenant == nil {
		return logRow{}, fmt.Errorf("the event's tenant_id %q is no uuid", e.TenantID)
	}
	if gjson.GetBytes(msg.Payload, "changes").Exists() && !sameChanges(e) {
		return logRow{}, errors.New("the change log cannot hold the event's changes: leave them out, they are computed from before and data of an UPDATE")
	}
	if e.Type == event.Delete { // the log holds what was deleted as the before-image
		if row.before == nil {
			row.before = row.data
		}
		row.data = nil
	} else if row.data == nil {
		row.data = text("null")
	}
	if gjson.GetBytes(msg.Payload, "timestamp").Exists() {
		row.at = text(e.Timestamp.UTC().Format(time.RFC3339Nano))
	}
	if e.SchemaVersion != 0 {
		version := int32(e.SchemaVersion) //nolint:gosec // a version number
		row.version = &version
	}
	if e.Seq != 0 {
		row.seq = &e.Seq
	}
	extra := carried{Source: e.Source}
	if len(msg.Metadata) > 0 {
		extra.Watermill = &carriedMessage{UUID: msg.UUID, Metadata: msg.Metadata}
	}
	if extra != (carried{}) {
		b, err := json.Marshal(extra)
		if err != nil {
			return logRow{}, err
		}
		row.extra = text(string(b))
	}
	return row, nil
}

// sameChanges reports whether a reader of the log finds the changes of e: it computes them from the images.
func sameChanges(e *event.Event) bool {
	if e.Changes == nil {
		return true
	}
	found, err := event.Decode((&event.Event{Type: e.Type, Entity: e.Entity, Data: e.Data, Before: e.Before}).JSON())
	var given, computed any
	return err == nil && json.Unmarshal(e.Changes, &given) == nil && json.Unmarshal(found.Changes, &computed) == nil && reflect.DeepEqual(given, computed)
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// uuidText is s when it is a uuid as Postgres reads it.
func uuidText(s string) *string {
	id, err := uuid.Parse(s)
	if err != nil {
		return nil
	}
	s = id.String()
	return &s
}

// logColumns are rows turned into one array a column, as unnest takes them.
type logColumns struct {
	id, kind, objectID, key, data, before, tenant, user, actor, at, extra, trace []*string

	version []*int32
	seq     []*int64
}

func (c *logColumns) add(r logRow) {
	c.id, c.kind, c.objectID, c.key = append(c.id, r.id), append(c.kind, &r.kind), append(c.objectID, r.objectID), append(c.key, r.key)
	c.data, c.before, c.tenant = append(c.data, r.data), append(c.before, r.before), append(c.tenant, r.tenant)
	c.user, c.actor, c.version, c.seq = append(c.user, r.user), append(c.actor, r.actor), append(c.version, r.version), append(c.seq, r.seq)
	c.at, c.extra, c.trace = append(c.at, r.at), append(c.extra, r.extra), append(c.trace, r.trace)
}

func (c *logColumns) args() []any {
	return []any{c.id, c.kind, c.objectID, c.key, c.data, c.before, c.tenant, c.user, c.actor, c.version, c.seq, c.at, c.extra, c.trace}
}
