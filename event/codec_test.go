package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

func TestDecodeFillsInWhatInputMayLeaveOut(t *testing.T) {
	e, err := event.Decode([]byte(`{"entity_type":"Order","data":{"n":9007199254740993}}`))
	require.NoError(t, err)
	require.Equal(t, event.Custom, e.Type)
	require.Empty(t, e.EntityID)
	require.Len(t, e.ID, 36)
	require.WithinDuration(t, time.Now(), e.Timestamp, time.Minute)
	require.Contains(t, string(e.JSON()), `"data":{"n":9007199254740993}`)
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"what is no JSON":       {`{`, "decode event: unexpected end of JSON input"},
		"a missing entity":      {`{"data":{}}`, `decode event: "entity_type" is missing`},
		"missing data":          {`{"entity_type":"Order"}`, `decode event: "data" is missing`},
		"an unknown event type": {`{"entity_type":"Order","data":1,"event_type":"UPSERT"}`, `decode event: event_type "UPSERT" is not one of INSERT, UPDATE, DELETE, CUSTOM`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := event.Decode([]byte(tc.in))
			require.EqualError(t, err, tc.want)
		})
	}
}

func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data"))
		require.NoError(t, err)
		in := &event.Event{
			ID: rapid.String().Draw(t, "id") + "x", Type: event.Update, Entity: rapid.String().Draw(t, "entity") + "x",
			EntityID: rapid.String().Draw(t, "entity_id"), Data: data, Before: []byte(`{"a":1}`), Changes: event.Diff([]byte(`{"a":1}`), data),
			UserID: rapid.String().Draw(t, "user"), Timestamp: time.Unix(1_700_000_000, 123456000).UTC(), Seq: rapid.Int64().Draw(t, "seq"),
		}
		require.True(t, json.Valid(in.JSON()), "%s", in.JSON())
		out, err := event.Decode(in.JSON())
		require.NoError(t, err)
		require.Equal(t, string(in.JSON()), string(out.JSON()))
	})
}

func TestDiffHoldsOnlyWhatChanged(t *testing.T) {
	for name, tc := range map[string]struct{ before, after, want string }{
		"one field":            {`{"a": 1, "b": 2}`, `{"a": 1, "b": 3}`, `{"b":{"old":2,"new":3}}`},
		"nothing":              {`{"a": 1}`, `{"a": 1}`, `{}`},
		"a field came":         {`{"a": 1}`, `{"a": 1, "b": null}`, `{"b":{"old":null,"new":null}}`},
		"a field went":         {`{"b": "x", "a": 1}`, `{"a": 1}`, `{"b":{"old":"x","new":null}}`},
		"keys with escapes":    {`{"a\"b": 1}`, `{"a\"b": 2}`, `{"a\"b":{"old":1,"new":2}}`},
		"digits are kept":      {`{"n": 9007199254740993}`, `{"n": 9007199254740992}`, `{"n":{"old":9007199254740993,"new":9007199254740992}}`},
		"no object is unknown": {`[1]`, `{"a": 1}`, ``},
		"no image is unknown":  {``, `{"a": 1}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, string(event.Diff([]byte(tc.before), []byte(tc.after))))
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"entity_type":"Order","data":{"a":1},"before":{"a":2},"timestamp":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"entity_type":"Order","data":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.Decode(b)
		if err != nil {
			return
		}
		event.Diff(e.Before, e.Data)
		if _, err := event.Decode(e.JSON()); err != nil && e.Data != nil && e.Timestamp.Year() < 10000 && e.Timestamp.Year() >= 0 {
			t.Fatalf("%s does not decode again: %v", e.JSON(), err)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	before, after := json.RawMessage(`{"id": 1, "name": "Ada", "status": "new", "total": 10.50}`), json.RawMessage(`{"id": 1, "name": "Ada", "status": "shipped", "total": 10.50}`)
	b.ReportAllocs()
	for b.Loop() {
		e := event.Event{ID: "00000000-0000-0000-0000-000000000000", Type: event.Update, Entity: "Order", EntityID: "1", Data: after, Before: before, Changes: event.Diff(before, after), Timestamp: time.Unix(1, 1)}
		_ = e.JSON()
	}
}
