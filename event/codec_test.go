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
		"what is no JSON":                    {`{`, "decode event: unexpected end of JSON input"},
		"a missing entity":                   {`{"data":{}}`, `decode event: "entity_type" is missing`},
		"missing data":                       {`{"entity_type":"Order"}`, `decode event: "data" is missing`},
		"what is no UTF-8":                   {"{\"entity_type\":\"Order\",\"data\":\"\xff\"}", "decode event: its text is not UTF-8"},
		"what is no object":                  {`[1]`, "decode event: it is no JSON object"},
		"an id of control characters":        {`{"id":"a\r\nb","entity_type":"Order","data":1}`, `decode event: "id" holds control characters`},
		"a year after the last in UTC":       {`{"entity_type":"Order","data":1,"timestamp":"9999-12-31T23:59:59-01:00"}`, `decode event: "timestamp" is not within the years 0 to 9999 in UTC`},
		"a year before the first in UTC":     {`{"entity_type":"Order","data":1,"timestamp":"0000-01-01T00:00:00+01:00"}`, `decode event: "timestamp" is not within the years 0 to 9999 in UTC`},
		"an id that is a number":             {`{"id":7,"entity_type":"Order","data":1}`, `decode event: "id" is not a string`},
		"a seq that is text":                 {`{"seq":"7","entity_type":"Order","data":1}`, `decode event: "seq" is not an integer of 64 bits`},
		"a version that the log cannot hold": {`{"schema_version":5000000000,"entity_type":"Order","data":1}`, `decode event: "schema_version" is not an integer of 32 bits`},
		"a time that is none":                {`{"timestamp":"noon","entity_type":"Order","data":1}`, `decode event: "timestamp" is not a time as in RFC 3339, such as 2026-01-31T12:00:00Z`},
		"keys in another case":               {`{"Entity_Type":"Order","DATA":1}`, `decode event: "entity_type" is missing`},
		"an unknown event type":              {`{"entity_type":"Order","data":1,"event_type":"UPSERT"}`, `decode event: event_type "UPSERT" is not one of INSERT, UPDATE, DELETE, CUSTOM`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := event.Decode([]byte(tc.in))
			require.EqualError(t, err, tc.want)
		})
	}
}

func TestDecodeTakesKeysByTheirExactNames(t *testing.T) {
	e, err := event.Decode([]byte(`{"entity_type":"Order","data":{"a":1},"Data":{"a":2},"ENTITY_TYPE":"Admin","Id":"x"}`))
	require.NoError(t, err)
	require.Equal(t, "Order", e.Entity)
	require.JSONEq(t, `{"a":1}`, string(e.Data))
	require.Len(t, e.ID, 36)
}

func TestDecodeComputesTheChangesThatItIsNotGiven(t *testing.T) {
	for name, tc := range map[string]struct{ rest, want string }{
		"of an update with both images":         {`"event_type":"UPDATE","data":{"a":2, "o":{"x": 1}},"before":{"a":1,"o":{"x":1}}`, `{"a":{"old":1,"new":2}}`},
		"and that are null":                     {`"event_type":"UPDATE","data":{"a":2},"before":{"a":1},"changes":null`, `{"a":{"old":1,"new":2}}`},
		"not those that it is given":            {`"event_type":"UPDATE","data":{"a":2},"before":{"a":1},"changes":{}`, `{}`},
		"not of an update without before-image": {`"event_type":"UPDATE","data":{"a":2}`, ``},
		"not of images that are no objects":     {`"event_type":"UPDATE","data":[2],"before":[1]`, ``},
		"not of another type":                   {`"event_type":"CUSTOM","data":{"a":2},"before":{"a":1}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := event.Decode([]byte(`{"entity_type":"Order",` + tc.rest + `}`))
			require.NoError(t, err)
			require.Equal(t, tc.want, string(e.Changes))
		})
	}
}

func TestJSONIsMadeOnceAndSafeToAppendTo(t *testing.T) {
	e := &event.Event{ID: "1", Entity: "Order", Timestamp: time.Unix(1, 0)}
	first := e.JSON()
	_ = append(e.JSON(), "tail"...)
	require.Same(t, &first[0], &e.JSON()[0])
	require.Len(t, first, cap(first))
}

func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data"))
		require.NoError(t, err)
		in := &event.Event{
			ID: rapid.StringMatching(`[^\pC]*`).Draw(t, "id") + "x", Type: event.Update, Entity: rapid.String().Draw(t, "entity") + "x",
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
		if _, err := event.Decode(e.JSON()); err != nil {
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
