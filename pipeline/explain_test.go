package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

type pager struct{}

func (pager) Run(context.Context, *event.Delivery) error { return nil }

// flaky cannot show anything now and may later.
type flaky struct{ pager }

func (flaky) Preview(*event.Delivery) (handlers.Preview, error) {
	return handlers.Preview{Body: "half"}, errors.New("no token yet")
}

// plan compiles a configuration.
func plan(t *testing.T, text string) *Plan {
	t.Helper()
	registry, err := handlers.NewRegistry(
		handlers.Define("pager", func(*struct{}, handlers.Env) (handlers.Action, error) { return pager{}, nil }),
		handlers.Define("flaky", func(*struct{}, handlers.Env) (handlers.Action, error) { return flaky{}, nil }))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "observer.toml")
	require.NoError(t, os.WriteFile(path, []byte("[transport]\ntransport = \"in_memory\"\n"+text), 0o600))
	cfg, err := config.Load(path, config.Options{Needs: config.NeedsNothing, Actions: registry.Configs()})
	require.NoError(t, err)
	http, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(t, err)
	t.Cleanup(http.Close)
	servers := handlers.NewServers(handlers.ServersConfig{Redis: &cfg.Redis})
	t.Cleanup(servers.Close)
	p, problems := Compile(cfg, registry, handlers.Env{Logger: slog.New(slog.DiscardHandler), HTTP: http, Servers: servers})
	require.Empty(t, problems)
	return p
}

func shipped() *event.Event {
	return &event.Event{
		ID: "e1", Type: event.Update, Entity: "Order", EntityID: "7", Data: json.RawMessage(`{"id": 7, "status": "shipped"}`),
		Changes: json.RawMessage(`{"status": {"old": "new", "new": "shipped"}}`),
	}
}

const note = "\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"order {{ data.id }}\"\n"

func TestEachObserverSaysWhyItDoesNotFire(t *testing.T) {
	t.Setenv("WORD", "confidential")
	for name, test := range map[string]struct {
		observer, reason string
	}{
		"it has no condition":               {``, ""},
		"its condition holds":               {`condition = "changed_to('status', 'shipped')"`, ""},
		"its condition is false":            {`condition = "data.id > 1 && data.id > 10"`, "data.id > 10 is false"},
		"its condition cannot be evaluated": {`condition = "data.id == 7 && length(data.id) > 1"`, "its condition cannot be evaluated, which counts as false: length got number and takes string or array or object"},
		"its condition holds a secret":      {`condition = "data.status == '${WORD}'"`, "its condition is false"},
		"it is disabled":                    {`enabled = false`, "it is disabled"},
		"it is for another type of event":   {`event_type = "DELETE"`, "it is for DELETE events, and this one is of type UPDATE"},
		"it has every reason":               {"event_type = \"DELETE\"\nenabled = false\ncondition = \"data.id > 10\"", "it is disabled; it is for DELETE events, and this one is of type UPDATE; data.id > 10 is false"},
	} {
		t.Run(name, func(t *testing.T) {
			list := plan(t, "[[observers]]\nentity = \"Order\"\n"+test.observer+note).Explain(shipped())
			require.Len(t, list, 1)
			require.Equal(t, test.reason, list[0].Reason)
			require.Equal(t, test.reason == "", list[0].Fires)
			require.Equal(t, strings.Contains(test.observer, "condition"), list[0].Condition != nil)
			require.Len(t, list[0].Actions, map[bool]int{true: 1, false: 0}[list[0].Fires])
			text, err := json.Marshal(list)
			require.NoError(t, err)
			require.NotContains(t, string(text), "confidential")
			require.NotRegexp(t, `"(parts|actions|fields)":null`, string(text))
		})
	}
}

func TestObserversKeepTheOrderOfTheFileWithTheDisabledOnes(t *testing.T) {
	t.Setenv("ENTITY", "confidential")
	list := plan(t, "[[observers]]\nname = \"off\"\nentity = \"Order\"\nenabled = false"+note+
		"[[observers]]\nname = \"on\"\nentity = \"*\""+note+
		"[[observers]]\nname = \"other\"\nentity = \"Invoice\"\ncondition = \"data.x == 1\""+note+
		"[[observers]]\nname = \"secret\"\nentity = \"${ENTITY}\""+note+
		"[[observers]]\nname = \"last\"\nentity = \"Order\"\nevent_type = \"UPDATE\""+note).Explain(shipped())
	var got []string
	for _, x := range list {
		got = append(got, x.Observer+": "+x.Reason)
	}
	require.Equal(t, []string{
		"off: it is disabled", "on: ",
		"other: it is for the entity Invoice, and this event is of Order",
		"secret: it is for the entity ***, and this event is of Order",
		"last: ",
	}, got)
	require.True(t, list[2].OtherEntity)
	require.Nil(t, list[2].Condition)
	require.Equal(t, "UPDATE", list[4].EventType)
}

func TestActionsShowWhatTheyWouldSend(t *testing.T) {
	t.Setenv("WORD", "confidential")
	for name, test := range map[string]struct {
		action string
		want   ActionExplanation
	}{
		"a log line": {
			"type = \"log\"\nlevel = \"warn\"\nmessage_template = \"order {{ data.id }}\"",
			ActionExplanation{Type: "log", Preview: handlers.Preview{Request: "log at level warn", Body: "order 7"}},
		},
		"one that holds a secret": {
			"type = \"log\"\nmessage_template = \"${WORD} {{ data.id }}\"",
			ActionExplanation{Type: "log", Preview: handlers.Preview{Request: "log at level info", Body: "***"}},
		},
		"a message to Slack that does": {
			"type = \"slack\"\nwebhook_url = \"https://hooks.example.com/${WORD}\"\nmessage_template = \"${WORD} {{ data.id }}\"",
			ActionExplanation{Type: "slack", Preview: handlers.Preview{Request: "POST https://hooks.example.com/***", Body: "***"}},
		},
		"a field that is missing": {
			"type = \"log\"\nmessage_template = \"{{ data.nope }}\"",
			ActionExplanation{Type: "log", Error: "render data.nope: no such field", Note: "it becomes a dead letter at once"},
		},
		"a failure that may pass": {`type = "flaky"`, ActionExplanation{Type: "flaky", Error: "no token yet", Note: "it is tried again"}},
		"an action without a preview": {
			`type = "pager"`, ActionExplanation{Type: "pager", Note: "cannot show what it would send: actions of type pager have no preview"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := plan(t, "[[observers]]\nentity = \"Order\"\n[[observers.actions]]\nname = \"a\"\n"+test.action+"\n").Explain(shipped())
			got := list[0].Actions[0]
			require.Contains(t, got.Error, test.want.Error)
			if test.want.Type != "slack" { // its headers hold the time
				require.Empty(t, got.Fields)
			}
			require.NotNil(t, got.Fields)
			got.Fields, got.Error, test.want.Error, test.want.Name = nil, "", "", "a"
			require.Equal(t, test.want, got)
		})
	}
}

func TestADeliveryIsNamedAsWhenItIsSent(t *testing.T) {
	list := plan(t, "[[observers]]\nname = \"shipped\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://example.com/{{ data.id }}\"\n").Explain(shipped())
	require.Equal(t, "POST https://example.com/7", list[0].Actions[0].Request)
	require.Contains(t, list[0].Actions[0].Fields, handlers.PreviewField{Name: "Webhook-Id", Value: "e1_shipped_webhook-1"})
	require.JSONEq(t, string(shipped().JSON()), list[0].Actions[0].Body)
}

func TestWhatIsDroppedAfterAFailureSaysSo(t *testing.T) {
	list := plan(t, "[[observers]]\nentity = \"Order\"\non_failure = \"log\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"{{ data.nope }}\"\n").Explain(shipped())
	require.Equal(t, "it is logged and dropped", list[0].Actions[0].Note)
}
