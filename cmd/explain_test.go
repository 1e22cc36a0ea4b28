package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/pipeline"
)

const explained = `
[transport]
transport = "in_memory"

[[observers]]
name = "shipped"
entity = "Order"
event_type = "UPDATE"
condition = "changed_to('status', 'shipped') && data.total > 100"
[[observers.actions]]
type = "webhook"
name = "notify"
url = "https://example.com/orders/{{ data.id }}"
body_template = '{"order": {{ data.id }}}'
[[observers.actions]]
type = "log"
name = "missing"
message_template = "{{ data.nope }}"

[[observers]]
name = "large"
entity = "Order"
condition = """
  data.id == 7
  && (data.total > 1000 || data.totl > 300)
  && !data.paid && !(data.id == 8 && data.id == 9) && length(data.tags) > 1"""
[[observers.actions]]
type = "log"
message_template = "large"

[[observers]]
name = "invoices"
entity = "Invoice"
[[observers.actions]]
type = "log"
message_template = "x"

[[observers]]
name = "all-payments"
entity = "Payment"
[[observers.actions]]
type = "log"
message_template = "x"
`

const explainedEvent = `{"id": "e1", "entity_type": "Order", "event_type": "UPDATE", "entity_id": "7",
	"data": {"id": 7, "status": "shipped", "total": 250.00, "paid": true}, "before": {"id": 7, "status": "paid", "total": 250.00, "paid": true}}`

func TestExplainShowsWhatFiresAndWhyNot(t *testing.T) {
	t.Parallel()
	r := observer(t, explainedEvent, "explain", "--config", file(t, "observer.toml", explained), "--event", "-")
	require.Zero(t, r.code, r.err)
	require.Empty(t, r.err)
	var lines []string
	for line := range strings.Lines(r.out) {
		for _, changing := range []string{"User-Agent: ", "Webhook-Timestamp: "} {
			if before, _, found := strings.Cut(line, changing); found {
				line = before + changing + "…\n"
			}
		}
		lines = append(lines, line)
	}
	require.Equal(t, `UPDATE of Order 7

shipped  fires
  ✓ all of
    ✓ changed_to('status', 'shipped')   status went from "paid" to "shipped"
    ✓ data.total > 100                  data.total is 250.00

  notify (webhook)
    POST https://example.com/orders/7
    Content-Type: application/json
    User-Agent: …
    Webhook-Id: e1_shipped_notify
    Idempotency-Key: e1_shipped_notify
    Webhook-Timestamp: …

    {"order": 7}

  missing (log) fails: render data.nope: no such field in this event (give it a default: {{ field | default "text" }})
    it becomes a dead letter at once

large  does not fire: (data.total > 1000 || data.totl > 300) is false
  ✗ all of
    ✓ data.id == 7            data.id is 7
    ✗ any of
      ✗ data.total > 1000     data.total is 250.00
      ✗ data.totl > 300       data.totl is null: there is no such field (did you mean total? data has id, status, total, paid)
    ✗ !data.paid              data.paid is true
    ✓ not
      ✗ all of
        ✗ data.id == 8        data.id is 7
        ✗ data.id == 9        data.id is 7
    ✗ length(data.tags) > 1   cannot be evaluated: length got null and takes string or array or object; data.tags is null: there is no such field (data has id, status, total, paid)

2 observers are for other entities: invoices, all-payments
`, strings.Join(lines, ""))
}

func TestExplainOneObserver(t *testing.T) {
	t.Parallel()
	cfg, event := file(t, "observer.toml", explained), file(t, "event.json", explainedEvent)
	for name, test := range map[string]struct{ observer, want string }{
		"of this entity":    {"large", "UPDATE of Order 7\n\nlarge  does not fire: (data.total > 1000 || data.totl > 300) is false\n"},
		"of another entity": {"invoices", "UPDATE of Order 7\n\ninvoices  does not fire: it is for the entity Invoice, and this event is of Order\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := succeeds(t, "explain", "--config", cfg, "--event", event, "--observer", test.observer)
			require.True(t, strings.HasPrefix(out, test.want), out)
			require.NotContains(t, out, "shipped  ")
		})
	}
}

func TestExplainAsJSON(t *testing.T) {
	t.Parallel()
	out := succeeds(t, "explain", "--config", file(t, "observer.toml", explained), "--event", file(t, "event.json", explainedEvent), "--format", "json")
	var got struct {
		EventID   string `json:"event_id"`
		Observers []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, "e1", got.EventID)
	require.Len(t, got.Observers, 4)
	first, second, third := got.Observers[0], got.Observers[1], got.Observers[2]
	require.Equal(t, "shipped", first["name"])
	require.Equal(t, true, first["fires"])
	require.Equal(t, "Order", first["entity"])
	require.Equal(t, "UPDATE", first["event_type"])
	actions, _ := first["actions"].([]any)
	require.Len(t, actions, 2)
	for _, action := range actions {
		for _, key := range []string{"name", "type", "request", "fields", "body", "error", "note"} {
			require.Contains(t, action, key)
		}
	}
	require.Equal(t, map[string]any{
		"source": "data.total > 100", "operator": "", "value": true, "reason": "data.total is 250.00", "error": "", "parts": []any{},
	}, first["condition"].(map[string]any)["parts"].([]any)[1])
	require.Equal(t, false, second["fires"])
	require.Equal(t, "(data.total > 1000 || data.totl > 300) is false", second["reason"])
	require.Empty(t, second["actions"])
	require.Nil(t, third["condition"])
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", explained)
	for name, test := range map[string]struct {
		in   string
		args []string
		says []string
	}{
		"no event":                       {"", []string{"--config", cfg}, []string{"--event is missing: write --event FILE, or --event -"}},
		"no configuration":               {"{}", []string{"--event", "-"}, []string{"there is no observer.toml here", "--config FILE"}},
		"an empty configuration name":    {"{}", []string{"--event", "-", "--config", ""}, []string{"--config is empty"}},
		"an argument":                    {"", []string{"event.json"}, []string{`"event.json"`}},
		"nothing to read":                {" \n", []string{"--config", cfg, "--event", "-"}, []string{"standard input is empty", `{"entity_type": "Order"`}},
		"two events":                     {explainedEvent + "\n" + explainedEvent, []string{"--config", cfg, "--event", "-"}, []string{"more than one event", "give it one line"}},
		"what is no JSON":                {"{]", []string{"--config", cfg, "--event", "-"}, []string{"read event from standard input", "invalid character"}},
		"something behind the event":     {explainedEvent + "]", []string{"--config", cfg, "--event", "-"}, []string{"read event from standard input", "after top-level value"}},
		"an event without an entity":     {`{"data": {}}`, []string{"--config", cfg, "--event", "-"}, []string{`"entity_type" is missing`}},
		"a file that is not there":       {"", []string{"--config", cfg, "--event", "no/such.json"}, []string{"no/such.json"}},
		"a misspelt observer":            {explainedEvent, []string{"--config", cfg, "--event", "-", "--observer", "shippd"}, []string{`no observer "shippd"`, "did you mean shipped?", "shipped, large, invoices, all-payments"}},
		"an observer of no declared one": {explainedEvent, []string{"--config", os.DevNull, "--event", "-", "--observer", "x"}, []string{"declares none"}},
		"a wrong configuration, with every problem": {
			explainedEvent,
			[]string{"--event", "-", "--config", file(t, "broken.toml", explained+"[[observers]]\nentity = \"Order\"\ncondition = \"daat.x\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"{{ x\"\n")},
			[]string{"did you mean data?", "message_template"},
		},
		"a variable that an action needs": {
			explainedEvent,
			[]string{"--event", "-", "--config", file(t, "variable.toml", explained+"[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"${OBSERVER_TEST_UNSET}\"\n")},
			[]string{"OBSERVER_TEST_UNSET is not set"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observer(t, test.in, append([]string{"explain"}, test.args...)...)
			require.Equal(t, exitUsage, r.code, r.err)
			require.Empty(t, r.out)
			for _, text := range test.says {
				require.Contains(t, r.err, text)
			}
		})
	}
}

func TestExplainNeedsNoServerAndNoSecretOfOne(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", strings.ReplaceAll(explained, `"in_memory"`, `"postgres"`)+`
[transport.postgres]
url = "${OBSERVER_TEST_UNSET}"
[redis]
url = "redis://:${OBSERVER_TEST_UNSET}@192.0.2.1:6379"
[admin]
listen = "192.0.2.1:7077"
token_env = "OBSERVER_TEST_UNSET"
`)
	require.Contains(t, succeeds(t, "explain", "--config", cfg, "--event", file(t, "event.json", explainedEvent)), "shipped  fires")
}

func TestExplainOfNoObservers(t *testing.T) {
	t.Parallel()
	out := succeeds(t, "explain", "--config", os.DevNull, "--event", file(t, "event.json", explainedEvent))
	require.Equal(t, "UPDATE of Order 7\n\nthe configuration declares no observers\n", out)
}

func TestExplainShowsNoSecret(t *testing.T) {
	const password = "confidential"
	t.Setenv("SECRET", password)
	t.Setenv("SECRET_URL", "https://example.com/"+password+"/{{ data.id }}")
	t.Setenv("SIGNING", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLawX")
	cfg := file(t, "observer.toml", `
[transport]
transport = "in_memory"
[[observers]]
entity = "Order"
condition = "data.status != '${SECRET}' && !(data.total == '${SECRET}')"
[[observers.actions]]
type = "webhook"
url = "https://ada:confidential@example.com/hooks/${SECRET}"
headers = { Authorization = "Bearer confidential", X-Token = "${SECRET}", X-Row = "confidential {{ data.id }}" }
body_template = '{"token": "${SECRET}"}'
signing_secret_env = "SIGNING"
[[observers.actions]]
type = "webhook"
url = "https://ada:confidential@example.com/open"
[[observers.actions]]
type = "webhook"
url_env = "SECRET_URL"
[[observers.actions]]
type = "slack"
webhook_url_env = "SECRET_URL"
message_template = "${SECRET}"
[[observers.actions]]
type = "slack"
webhook_url = "https://hooks.example.com/${SECRET}"
message_template = "order"
channel = "${SECRET}"
[[observers.actions]]
type = "log"
message_template = "${SECRET} {{ data.id }}"
[[observers]]
name = "other"
entity = "${SECRET}"
[[observers.actions]]
type = "log"
message_template = "x"
[[observers]]
entity = "Order"
condition = "data.status == '${SECRET}' || abs('${SECRET}') == 1 && data.id == '${SECRET}'"
enabled = false
[[observers.actions]]
type = "log"
message_template = "x"
`)
	for _, format := range []string{"text", "json"} {
		r := observer(t, explainedEvent, "explain", "--config", cfg, "--event", "-", "--format", format)
		require.Zero(t, r.code, r.err)
		require.Contains(t, r.out, "Webhook-Signature")
		require.Contains(t, r.out, "https://example.com/***")
		for _, secret := range []string{password, "whsec", "MfKQ9", "v1,", "YWRhOmNvbmZpZGVudGlhbA=="} {
			require.NotContains(t, r.out+r.err, secret, format)
		}
	}
}

func TestExplainUsesTheActionsOfATeam(t *testing.T) {
	t.Parallel()
	type pagerConfig struct {
		Service string `toml:"service"`
	}
	option := WithAction("explained_pager", func(*pagerConfig, handlers.Env) (handlers.Action, error) { return silentAction{}, nil })
	cfg := file(t, "observer.toml", "[transport]\ntransport = \"in_memory\"\n[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"explained_pager\"\n")
	r := observerWith(t, explainedEvent, []Option{option}, "explain", "--config", cfg, "--event", "-")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.out, "(explained_pager)\n    cannot show what it would send: actions of type explained_pager have no preview\n")
}

type silentAction struct{}

func (silentAction) Run(context.Context, *event.Delivery) error { return nil }

func TestColoursAreForTerminals(t *testing.T) {
	t.Parallel()
	x := pipeline.Explanation{Observer: "shipped", Fires: true, Condition: &handlers.Clause{Source: "data.id", Value: true, Reason: "data.id is 7"}}
	plain, coloured := &explainText{}, &explainText{colours: true}
	plain.observer(x)
	coloured.observer(x)
	require.Equal(t, "\nshipped  fires\n  ✓ data.id   data.id is 7\n", plain.String())
	require.Equal(t, "\n\x1b[1mshipped\x1b[0m  \x1b[32mfires\x1b[0m\n  \x1b[32m✓\x1b[0m data.id   \x1b[2mdata.id is 7\x1b[0m\n", coloured.String())
	terminal, err := os.Open(os.DevNull) // a device, as a terminal is
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, terminal.Close()) })
	for name, test := range map[string]struct {
		program *program
		want    bool
	}{
		"a terminal":             {&program{out: &output{w: terminal}}, true},
		"a pipe":                 {&program{out: &output{w: &bytes.Buffer{}}}, false},
		"a terminal without any": {&program{out: &output{w: terminal}, getenv: func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }}, false},
		"one that knows none":    {&program{out: &output{w: terminal}, getenv: func(name string) string { return map[string]string{"TERM": "dumb"}[name] }}, false},
	} {
		if test.program.getenv == nil {
			test.program.getenv = func(string) string { return "" }
		}
		require.Equal(t, test.want, test.program.colours(), name)
	}
}

func TestARowCannotWriteToTheTerminal(t *testing.T) {
	t.Parallel()
	row := `{"entity_type": "Order\u001b[2J", "data": {"id": "\u009b31m", "a\u001bb": 1}}`
	cfg := file(t, "observer.toml", "[transport]\ntransport = \"in_memory\"\n[[observers]]\nentity = \"*\"\ncondition = \"data.id != 'x' && data.b == `null`\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"first {{ data.id }}\\nsecond\\n\"\n")
	r := observer(t, row, "explain", "--config", cfg, "--event", "-")
	require.Zero(t, r.code, r.err)
	require.NotContains(t, r.out, "\x1b")
	require.NotContains(t, r.out, "\u009b")
	require.Contains(t, r.out, "    first  31m\n    second\n")
}
