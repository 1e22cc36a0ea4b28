package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"sync"
	"time"
)

// views holds what was decoded of an event: each part once, when it is first asked for.
type views struct {
	view, exact           decoded
	data, before, changes topLevel // raw.go
	json                  encoded  // codec.go
}

type encoded struct {
	once sync.Once
	text []byte
}

type decoded struct {
	once  sync.Once
	roots map[string]any
	err   error
}

// View returns {event, data, before, changes} with numbers as float64, which is what conditions see. It is shared: do
// not change it.
func (e *Event) View() (map[string]any, error) {
	v := &e.views.view
	v.once.Do(func() { v.roots, v.err = e.decode(unmarshal, func(n int64) any { return float64(n) }) })
	return v.roots, v.err
}

// Exact returns the same roots as [Event.View] with numbers as json.Number, which keeps every digit. It is shared: do not
// change it.
func (e *Event) Exact() (map[string]any, error) {
	v := &e.views.exact
	v.once.Do(func() {
		v.roots, v.err = e.decode(unmarshalExact, func(n int64) any { return json.Number(strconv.FormatInt(n, 10)) })
	})
	return v.roots, v.err
}

// decode decodes each of the images once; event.data is the same value as data.
func (e *Event) decode(unmarshal func([]byte) (any, error), number func(int64) any) (map[string]any, error) {
	roots := make(map[string]any, 4)
	for _, image := range []struct {
		name string
		raw  json.RawMessage
	}{{"data", e.Data}, {"before", e.Before}, {"changes", e.Changes}} {
		if image.raw == nil {
			roots[image.name] = nil
			continue
		}
		value, err := unmarshal(image.raw)
		if err != nil {
			return nil, fmt.Errorf("decode %s of event %s: %w", image.name, e.ID, err)
		}
		roots[image.name] = value
	}
	self := map[string]any{
		"id": e.ID, "event_type": string(e.Type), "entity_type": e.Entity, "entity_id": e.EntityID,
		"tenant_id": nullable(e.TenantID), "user_id": nullable(e.UserID), "timestamp": e.Timestamp.UTC().Format(time.RFC3339Nano),
		"seq": number(e.Seq), "source": nullable(e.Source), "actor_type": nullable(e.ActorType),
		"schema_version": number(int64(e.SchemaVersion)),
	}
	maps.Copy(self, roots)
	roots["event"] = self
	return roots, nil
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// unmarshal decodes numbers as float64. Those beyond its range, which Postgres' numeric allows, become infinite.
func unmarshal(raw []byte) (any, error) {
	var value any
	err := json.Unmarshal(raw, &value)
	if tooLarge := (*json.UnmarshalTypeError)(nil); errors.As(err, &tooLarge) {
		if value, err = unmarshalExact(raw); err == nil {
			value = floats(value)
		}
	}
	return value, err
}

func unmarshalExact(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	err := d.Decode(&value)
	return value, err
}

func floats(value any) any {
	switch v := value.(type) {
	case json.Number:
		return Float(string(v))
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = floats(v[k])
		}
	}
	return value
}

// Float returns the number that a condition sees for the text of a JSON number: infinite where float64 ends.
func Float(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}
