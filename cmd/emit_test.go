package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// logged returns the change log as JSON lines.
func logged(t *testing.T, db *pgx.Conn) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `select format('%s %s %s %s', modification_type, object_type, coalesce(object_key, '-'), coalesce(object_data, object_data_before))
		from core.tb_entity_change_log order by pk_entity_change_log`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

func TestEmitPutsEventsIntoTheLog(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in   string
		args []string
		want []string
	}{
		"one": {"", []string{"--entity", "Order", "--data", `{"n": 1}`}, []string{`CUSTOM Order - {"n": 1}`}},
		"one with type and id": {
			"",
			[]string{"--entity", "Order", "--type", "INSERT", "--id", "7", "--data", `{"n": 12345678901234567890}`},
			[]string{`INSERT Order 7 {"n": 12345678901234567890}`},
		},
		"a deletion":                    {"", []string{"--entity", "Order", "--type", "DELETE", "--id", "7", "--data", `{"n": 1}`}, []string{`DELETE Order 7 {"n": 1}`}},
		"data that is null":             {"", []string{"--entity", "Order", "--data", "null"}, []string{`CUSTOM Order - null`}},
		"a name that no topic could be": {"", []string{"--entity", "Größe & Co.", "--data", "{}"}, []string{`CUSTOM Größe & Co. - {}`}},
		"the data of events as NDJSON":  {"{\"n\": 1}\n\n{\"n\": 2}\n", []string{"--entity", "Order", "--id", "7", "--data", "-"}, []string{`CUSTOM Order 7 {"n": 1}`, `CUSTOM Order 7 {"n": 2}`}},
		"data over several lines":       {"{\n  \"n\": 1\n}\n", []string{"--entity", "Order", "--data", "-"}, []string{`CUSTOM Order - {"n": 1}`}},
		"whole events, their order kept": {
			`{"entity_type": "A", "data": 1}` + "\n" + `{"entity_type": "B", "event_type": "UPDATE", "entity_id": "x", "data": 2}` + "\n" + `{"entity_type": "A", "data": 3}`,
			[]string{"--data", "-"},
			[]string{"CUSTOM A - 1", "UPDATE B x 2", "CUSTOM A - 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, db := database(t)
			r := observer(t, test.in, append([]string{"emit", "--config", cfg}, test.args...)...)
			require.Zero(t, r.code, r.err)
			require.Equal(t, test.want, logged(t, db))
			require.Equal(t, one[string](t, db, `select string_agg(id::text, e'\n' order by pk_entity_change_log) from core.tb_entity_change_log`)+"\n", r.out)
		})
	}
}

func TestEmitReadsAFileAndPrintsJSON(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	out := succeeds(t, "emit", "--config", cfg, "--entity", "Order", "--data", "@"+file(t, "data.json", `{"n": 1}`), "--format", "json")
	var printed struct {
		Events int
		IDs    []string
	}
	require.NoError(t, json.Unmarshal([]byte(out), &printed))
	require.Equal(t, 1, printed.Events)
	require.Equal(t, []string{one[string](t, db, `select id::text from core.tb_entity_change_log`)}, printed.IDs)
}

func TestEmitKeepsTheIDOfAnEvent(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	const id = "0198d3a5-0000-7000-8000-000000000001"
	r := observer(t, `{"id": "`+id+`", "entity_type": "A", "data": {}, "timestamp": "2026-01-31T12:00:00Z"}`, "emit", "--config", cfg, "--data", "-")
	require.Zero(t, r.code, r.err)
	require.Equal(t, id+"\n", r.out)
	require.True(t, one[bool](t, db, `select id = $1 and created_at = '2026-01-31T12:00:00Z' from core.tb_entity_change_log`, id))
}

func TestEmitIsAllOrNothing(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	many := strings.Repeat(`{"n": 1}`+"\n", publishBatch+1)
	for name, test := range map[string]struct {
		in, says string
		args     []string
	}{
		"a broken last value":            {many + "{", fmt.Sprintf("standard input, value %d", publishBatch+2), []string{"--entity", "Order"}},
		"text after the last value":      {many + "nonsense", "invalid character", []string{"--entity", "Order"}},
		"an event without an entity":     {`{"entity_type": "A", "data": 1}` + "\n" + `{"data": 1}`, `value 2: decode event: "entity_type" is missing`, nil},
		"an event with a strange type":   {`{"entity_type": "A", "data": 1, "event_type": "UPSERT"}`, "UPSERT", nil},
		"an event with a strange id":     {`{"entity_type": "A", "data": 1, "id": "seven"}`, `"seven" is no uuid`, nil},
		"an event with a strange tenant": {`{"entity_type": "A", "data": 1, "tenant_id": "acme"}`, `tenant_id "acme" is no uuid`, nil},
		"a zero that Postgres lacks":     {`{"text": "a\u0000b"}`, "hold what Postgres cannot store", []string{"--entity", "Order"}},
		"changes that nothing keeps":     {`{"entity_type": "A", "event_type": "UPDATE", "data": {}, "changes": {}}`, "cannot hold the event's changes", nil},
		"nothing at all":                 {"\n", "is empty", []string{"--entity", "Order"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := observer(t, test.in, append([]string{"emit", "--config", cfg, "--data", "-"}, test.args...)...)
			require.Equal(t, exitUsage, r.code, r.err)
			require.Contains(t, r.err, test.says)
			require.Empty(t, r.out)
			require.Empty(t, logged(t, db))
		})
	}
}

func TestEmitThatIsInterruptedEmitsNothing(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	in := io.MultiReader(strings.NewReader("1\n2\n"), iotest.ErrReader(errors.New("interrupt signal received")))
	var out, errOut bytes.Buffer
	require.Equal(t, exitRuntime, execute(t.Context(), []string{"emit", "--config", cfg, "--data", "-", "--entity", "Order"}, in, &out, &errOut))
	require.Contains(t, errOut.String(), "interrupt signal received; nothing was emitted")
	require.Empty(t, out.String())
	require.Empty(t, logged(t, db))
}

func TestEmitTakesMoreThanABatch(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	const events = 3*publishBatch + 7
	var in strings.Builder
	in.WriteString("\ufeff")
	for i := range events {
		fmt.Fprintf(&in, "%d\n", i)
	}
	r := observer(t, in.String(), "emit", "--config", cfg, "--data", "-", "--entity", "Order")
	require.Zero(t, r.code, r.err)
	require.Equal(t, events, one[int](t, db, `select count(*) from core.tb_entity_change_log`))
	require.True(t, one[bool](t, db, `select bool_and(ok) from (
		select object_data::text::int = row_number() over (order by pk_entity_change_log) - 1 as ok from core.tb_entity_change_log) x`), "their order is kept")
}
