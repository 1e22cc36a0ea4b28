package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	watermill "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

// pagerConfig has a key of each kind.
type pagerConfig struct {
	Service string            `toml:"service" required:"true" pattern:"^[a-z]+$" doc:"who is called"`
	Urgency int               `toml:"urgency" default:"2" min:"1" max:"5" doc:"how loudly"`
	Rate    float64           `toml:"rate"`
	Quiet   bool              `toml:"quiet"`
	Wait    time.Duration     `toml:"wait" default:"1m"`
	Channel string            `toml:"channel" default:"sms" enum:"sms,voice"`
	Teams   []string          `toml:"teams"`
	Labels  map[string]string `toml:"labels"`
	escalation
	Night struct {
		Service string `toml:"service" default:"guard"`
	} `toml:"night"`
}

// escalation holds keys that several actions have.
type escalation struct {
	Steps int `toml:"steps" default:"3"`
}

// newPager is a constructor that fails in every way, as its service asks for.
func newPager(cfg *pagerConfig, _ handlers.Env) (handlers.Action, error) {
	switch cfg.Service {
	case "nobody":
		return nil, &handlers.KeyError{Key: "service", Err: errors.New("is on holiday"), Hint: "write somebody"}
	case "crowd":
		return nil, errors.Join(
			&handlers.KeyError{Key: "service", Err: errors.New("is too many")},
			&handlers.KeyError{Key: "labels.site", Err: errors.New("is unknown"), Hint: "write north or south"})
	case "broken":
		return nil, errors.New("no pager works")
	case "missing":
		return nil, nil
	case "hasty":
		cfg.Wait /= time.Duration(cfg.Urgency)
	}
	return does(func(*event.Delivery) error { return nil }), nil
}

// does is an action that is a function.
type does func(*event.Delivery) error

func (f does) Run(_ context.Context, d *event.Delivery) error { return f(d) }

// withRun adds the action type "pager" that does run.
func withRun(run func(*event.Delivery) error) Option {
	return WithAction("pager", func(*struct{}, handlers.Env) (handlers.Action, error) { return does(run), nil })
}

// pagerFile is a configuration whose sixth line is the first key of the action.
func pagerFile(t *testing.T, keys ...string) string {
	t.Helper()
	text := "transport.transport = \"in_memory\"\n[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"pager\"\n"
	return file(t, "observer.toml", text+strings.Join(keys, "\n")+"\n")
}

func pass(next message.HandlerFunc) message.HandlerFunc { return next }

func TestATeamsActionGetsItsTypedKeys(t *testing.T) {
	t.Parallel()
	var got pagerConfig
	option := WithAction("pager", func(cfg *pagerConfig, env handlers.Env) (handlers.Action, error) {
		got = *cfg
		return newPager(cfg, env)
	})
	cfg := pagerFile(t, `service = "orders"`, `rate = 1`, `quiet = true`, `wait = "90s"`, `teams = ["a", "b"]`, `labels = { site = "north" }`, `night.service = "dog"`)
	r := observerWith(t, "", []Option{option}, "run", "--config", cfg, "--validate")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.out, "order-any-1: any change of Order -> pager-1")
	want := pagerConfig{
		Service: "orders", Urgency: 2, Rate: 1, Quiet: true, Wait: 90 * time.Second, Channel: "sms",
		Teams: []string{"a", "b"}, Labels: map[string]string{"site": "north"}, escalation: escalation{3},
	}
	want.Night.Service = "dog"
	require.Equal(t, want, got)
}

func TestMistakesInATeamsTableAreToldWithTheirPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keys []string
		want []string // each after the name of the file and ":"
	}{
		"a misspelt key":           {[]string{`servce = "orders"`}, []string{`6:1: observers[0].actions[0].servce: unknown key (did you mean "service"?)`}},
		"a key like no other":      {[]string{`service = "orders"`, `frobnicate = 1`}, []string{`7:1: observers[0].actions[0].frobnicate: unknown key (known: type, name, middleware, service, urgency`}},
		"a missing key":            {nil, []string{`4:3: observers[0].actions[0].service: is missing (add service = …)`}},
		"a value of another kind":  {[]string{`service = "orders"`, `urgency = "high"`}, []string{`7:11: observers[0].actions[0].urgency: is text, not an integer`}},
		"a value beyond its limit": {[]string{`service = "orders"`, `  urgency = 9`}, []string{`7:13: observers[0].actions[0].urgency: is too large: 9 (write a whole number from 1 to 5)`}},
		"a word that is none":      {[]string{`service = "orders"`, `channel = "vioce"`}, []string{`7:11: observers[0].actions[0].channel: is not one of the allowed values: "vioce"`}},
		"a length that is none":    {[]string{`service = "orders"`, `wait = 5`}, []string{`7:8: observers[0].actions[0].wait: is an integer, not`}},
		"a key of a table within":  {[]string{`service = "orders"`, `night.servce = "dog"`}, []string{`night.servce: unknown key (did you mean "service"?)`}},
		"what the constructor says of a key": {
			[]string{`service = "nobody"`}, []string{`6:11: observers[0].actions[0].service: is on holiday (write somebody)`},
		},
		"what it says of several": {
			[]string{`labels.site = "east"`, `service = "crowd"`},
			[]string{`6:15: observers[0].actions[0].labels.site: is unknown (write north or south)`, `7:11: observers[0].actions[0].service: is too many`},
		},
		"what it says of none":           {[]string{`service = "broken"`}, []string{`4:3: observers[0].actions[0]: no pager works`}},
		"a constructor of nothing":       {[]string{`service = "missing"`}, []string{`4:3: observers[0].actions[0]: build pager action: its constructor returned no action and no error`}},
		"a constructor that goes ahead":  {[]string{`service = "hasty"`, `urgency = 0`}, []string{`4:3: observers[0].actions[0]: build pager action: panic: runtime error: integer divide by zero`, `7:11: observers[0].actions[0].urgency: is too small: 0`}},
		"middleware that nobody has":     {[]string{`service = "orders"`, `middleware = ["audit", "audti"]`}, []string{`7:24: observers[0].actions[0].middleware[1]: no such middleware is registered: "audti" (did you mean "audit"?)`}},
		"middleware of another kind":     {[]string{`service = "orders"`, `middleware = "audit"`}, []string{`7:14: observers[0].actions[0].middleware: is text, not an array`}},
		"middleware of no such observer": {[]string{`service = "orders"`, `[[observers]]`, `entity = "Order"`, `middleware = ["traec"]`, `[[observers.actions]]`, `type = "pager"`, `service = "orders"`}, []string{`9:15: observers[1].middleware[0]: no such middleware is registered: "traec" (did you mean "trace"?)`}},
		"middleware of the pipeline":     {[]string{`service = "orders"`, `[pipeline]`, `middleware = ["xyz"]`}, []string{`8:15: pipeline.middleware[0]: no such middleware is registered: "xyz" (known: audit, trace)`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pagerFile(t, test.keys...)
			r := observerWith(t, "", []Option{WithAction("pager", newPager), WithMiddleware("audit", pass), WithMiddleware("trace", pass)}, "run", "--config", cfg, "--validate")
			require.Equal(t, exitUsage, r.code)
			require.Empty(t, r.out)
			var problems []string
			for line := range strings.Lines(r.err) {
				if rest, ok := strings.CutPrefix(line, cfg+":"); ok {
					problems = append(problems, rest)
				}
			}
			require.Len(t, problems, len(test.want), r.err)
			for i, want := range test.want {
				require.Contains(t, problems[i], want)
			}
		})
	}
}

func TestTheStockProgramNamesWhatIsNotRegistered(t *testing.T) {
	t.Parallel()
	cfg := pagerFile(t, `middleware = ["audit"]`)
	r := observer(t, "", "run", "--config", cfg, "--validate")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, cfg+`:5:8: observers[0].actions[0].type: is not a known action type: "pager" (known: `)
	require.Contains(t, r.err, cfg+`:6:15: observers[0].actions[0].middleware[0]: no such middleware is registered: "audit" (register it in the program)`)

	r = observerWith(t, "", []Option{WithAction("pager", newPager)}, "run", "--config", file(t, "observer.toml", strings.ReplaceAll(quickstart, `"log"`, `"pagre"`)), "--validate")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, `is not a known action type: "pagre" (did you mean "pager"?)`)
}

func TestTheSchemaHoldsATeamsAction(t *testing.T) {
	t.Parallel()
	r := observerWith(t, "", []Option{WithAction("pager", newPager)}, "schema")
	require.Zero(t, r.code, r.err)
	var schema struct {
		Defs map[string]struct {
			Required   []string
			Properties map[string]struct {
				Description string
				Enum        []string
			}
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &schema))
	require.Contains(t, schema.Defs["action"].Properties["type"].Enum, "pager")
	pager := schema.Defs["action_pager"]
	require.Equal(t, []string{"type", "service"}, pager.Required)
	require.Equal(t, "who is called", pager.Properties["service"].Description)
	for _, key := range []string{"name", "middleware", "urgency", "steps", "night"} {
		require.Contains(t, pager.Properties, key)
	}
}

func TestWrongOptionsEndTheProgramWithTwo(t *testing.T) {
	t.Parallel()
	type pointers struct {
		Limit *int `toml:"limit"`
	}
	type hidden struct {
		limit int `toml:"limit"` //nolint:unused // the mistake that is tested
	}
	pager := WithAction("pager", newPager)
	for name, test := range map[string]struct {
		options []Option
		says    string
	}{
		"an action twice":               {[]Option{pager, pager}, `register action: the type "pager" exists already (choose another name)`},
		"an action that is built in":    {[]Option{WithAction("webhook", newPager)}, `the type "webhook" exists already`},
		"an action without a name":      {[]Option{WithAction("", newPager)}, `it has no type`},
		"an action of many words":       {[]Option{WithAction("Credit check", newPager)}, `the type "Credit check" is no name (write lower-case letters`},
		"an action of nothing":          {[]Option{WithAction[struct{}]("pager", nil)}, `no constructor`},
		"keys that are no struct":       {[]Option{WithAction("pager", func(*map[string]any, handlers.Env) (handlers.Action, error) { return nil, nil })}, `register action pager: its config is a map[string]interface {} (write a struct`},
		"a key that is a pointer":       {[]Option{WithAction("pager", func(*pointers, handlers.Env) (handlers.Action, error) { return nil, nil })}, `no value of a file becomes a *int, as the key "limit" needs it`},
		"a key that is not exported":    {[]Option{WithAction("pager", func(*hidden, handlers.Env) (handlers.Action, error) { return nil, nil })}, `no value reaches the field limit of the key "limit" (begin its name with a capital)`},
		"a middleware twice":            {[]Option{WithMiddleware("audit", pass), WithMiddleware("audit", pass)}, `register middleware: the name "audit" exists already (choose another name)`},
		"middleware without a name":     {[]Option{WithMiddleware("", pass)}, `it needs a name and a function`},
		"middleware without a function": {[]Option{WithMiddleware("audit", nil)}, `register middleware "audit": it needs a name and a function`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observerWith(t, "", test.options, "version")
			require.Equal(t, exitUsage, r.code)
			require.Empty(t, r.out)
			require.Contains(t, r.err, "error: ")
			require.Contains(t, r.err, test.says)
		})
	}
}

const oneOrder = `{"entity_type": "Order", "event_type": "INSERT", "entity_id": "7", "data": {"id": 7}}`

func TestMiddlewareOfThePipelineStandsOutsideTheObserversAndTheActions(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	saw := map[string][]string{}
	named := func(name string) Option {
		return WithMiddleware(name, func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				d := event.FromContext(msg.Context())
				mu.Lock()
				saw[d.Observer+"/"+d.Action] = append(saw[d.Observer+"/"+d.Action], name)
				mu.Unlock()
				return next(msg)
			}
		})
	}
	cfg := file(t, "observer.toml", `
[transport]
transport = "in_memory"

[pipeline]
middleware = ["all-1", "all-2"]

[[observers]]
name = "shipped"
entity = "Order"
middleware = ["own-1", "own-2"]

[[observers.actions]]
type = "pager"
name = "both"
middleware = ["near-1", "near-2"]

[[observers.actions]]
type = "pager"
name = "plain"

[[observers]]
name = "other"
entity = "Order"

[[observers.actions]]
type = "pager"
name = "alone"
`)
	options := []Option{withRun(func(*event.Delivery) error { return nil })}
	for _, name := range []string{"near-2", "near-1", "own-2", "own-1", "all-2", "all-1"} { // the file's order counts, not this one
		options = append(options, named(name))
	}
	r := observerWith(t, oneOrder, options, "run", "--config", cfg, "--input", "-")
	require.Zero(t, r.code, r.err)
	require.Equal(t, map[string][]string{
		"shipped/both":  {"all-1", "all-2", "own-1", "own-2", "near-1", "near-2"},
		"shipped/plain": {"all-1", "all-2", "own-1", "own-2"},
		"other/alone":   {"all-1", "all-2"},
	}, saw)
}

// deliver runs one order through action and middleware, with two attempts, and returns how often each was called.
func deliver(t *testing.T, m message.HandlerMiddleware, run func(*event.Delivery) error) (r outcome, around, ran int64) {
	t.Helper()
	var calls, runs atomic.Int64
	counted := func(next message.HandlerFunc) message.HandlerFunc {
		handler := m(next)
		return func(msg *message.Message) ([]*message.Message, error) {
			calls.Add(1)
			return handler(msg)
		}
	}
	action := withRun(func(d *event.Delivery) error {
		runs.Add(1)
		return run(d)
	})
	cfg := pagerFile(t, `middleware = ["audit"]`, `[observers.retry]`, `max_attempts = 2`, `initial_delay_ms = 1`)
	r = observerWith(t, oneOrder, []Option{action, WithMiddleware("audit", counted)}, "run", "--config", cfg, "--input", "-")
	return r, calls.Load(), runs.Load()
}

func TestWhatBecomesOfADeliveryOfATeam(t *testing.T) {
	t.Parallel()
	away, done := errors.New("away"), func(*event.Delivery) error { return nil }
	// before calls f before the action, and does not call that where there is an error.
	before := func(f func(*message.Message) error) message.HandlerMiddleware {
		return func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				if err := f(msg); err != nil {
					return nil, err
				}
				return next(msg)
			}
		}
	}
	for name, test := range map[string]struct {
		around      message.HandlerMiddleware
		action      func(*event.Delivery) error
		calls, runs int64
		summary     string
		logs        string
	}{
		"an action that succeeds":           {pass, done, 1, 1, "1 delivered, 0 dead letters", ""},
		"an action that fails once":         {pass, func(d *event.Delivery) error { return errorIf(d.Tries() == 0) }, 2, 2, "1 delivered, 0 dead letters", "deliveries fail and are parked"},
		"an action that fails always":       {pass, func(*event.Delivery) error { return away }, 2, 2, "0 delivered, 1 dead letters", "attempt=2 error=away"},
		"an action that fails for good":     {pass, func(*event.Delivery) error { return event.Permanent(away) }, 1, 1, "0 delivered, 1 dead letters", "attempt=1 error=away"},
		"an action that panics":             {pass, func(*event.Delivery) error { panic("oh") }, 2, 2, "0 delivered, 1 dead letters", `attempt=2 error="panic: oh"`},
		"a middleware that panics":          {before(func(*message.Message) error { panic("oh") }), done, 2, 0, "0 delivered, 1 dead letters", `attempt=2 error="panic: oh"`},
		"a middleware that panics once":     {before(func(msg *message.Message) error { return panicIf(event.FromContext(msg.Context()).Tries() == 0) }), done, 2, 1, "1 delivered, 0 dead letters", "panic in a handler"},
		"a middleware that stops it":        {before(func(*message.Message) error { return event.Permanent(away) }), done, 1, 0, "0 delivered, 1 dead letters", "attempt=1 error=away"},
		"a middleware that puts it off":     {before(func(msg *message.Message) error { return errorIf(event.FromContext(msg.Context()).Tries() == 0) }), done, 2, 1, "1 delivered, 0 dead letters", ""},
		"a middleware that skips it":        {func(message.HandlerFunc) message.HandlerFunc { return skip }, done, 1, 0, "0 delivered, 0 dead letters", ""},
		"a middleware that wants no retry":  {permanently, func(*event.Delivery) error { return away }, 1, 1, "0 delivered, 1 dead letters", "attempt=1 error=away"},
		"a middleware that hides a failure": {watermill.NewIgnoreErrors([]error{away}).Middleware, func(*event.Delivery) error { return away }, 1, 1, "0 delivered, 0 dead letters", ""},
		"Watermill's Timeout":               {watermill.Timeout(time.Minute), func(*event.Delivery) error { return away }, 2, 2, "0 delivered, 1 dead letters", "attempt=2 error=away"},
		"Watermill's Retry": {
			watermill.Retry{MaxRetries: 2, InitialInterval: time.Millisecond}.Middleware,
			func(*event.Delivery) error { return away }, 2, 6, "0 delivered, 1 dead letters", "attempt=2",
		},
		"a middleware that loses the context": {
			before(func(msg *message.Message) error { msg.SetContext(context.Background()); return nil }),
			func(d *event.Delivery) error { return errorIf(d.Event.EntityID == "7") }, 2, 2, "0 delivered, 1 dead letters", "attempt=2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, calls, runs := deliver(t, test.around, test.action)
			require.Contains(t, r.out, "1 events, 1 matched, "+test.summary, r.err)
			require.Equal(t, test.calls, calls, "calls of the middleware")
			require.Equal(t, test.runs, runs, "runs of the action")
			require.Contains(t, r.err, test.logs)
			require.Equal(t, strings.Contains(test.summary, "1 dead letters"), r.code == exitRuntime, r.err)
		})
	}
}

func errorIf(wrong bool) error {
	if wrong {
		return errors.New("wrong")
	}
	return nil
}

func panicIf(wrong bool) error {
	if wrong {
		panic("oh")
	}
	return nil
}

// skip ends a delivery without its action.
func skip(*message.Message) ([]*message.Message, error) { return nil, nil }

// permanently makes every failure one that is not tried again.
func permanently(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		msgs, err := next(msg)
		return msgs, event.Permanent(err)
	}
}

func TestMiddlewareSeesTheDeliveryAndItsOutcome(t *testing.T) {
	t.Parallel()
	type seen struct {
		id, observer, action, entity, entityID, data string
		tries                                        int
		class                                        string
	}
	var attempts []seen // one delivery: one attempt after the other
	audit := func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			d := event.FromContext(msg.Context())
			msgs, err := next(msg)
			attempts = append(attempts, seen{strings.TrimPrefix(d.ID(), d.Event.ID), d.Observer, d.Action, d.Event.Entity, d.Event.EntityID, string(d.Event.Data), d.Tries(), event.Class(err)})
			return msgs, err
		}
	}
	r, _, _ := deliver(t, audit, func(d *event.Delivery) error {
		if d.Tries() == 0 {
			return event.WithClass(errors.New("away"), "bureau_away")
		}
		panic("oh")
	})
	require.Equal(t, exitRuntime, r.code, r.err)
	first := seen{"_order-any-1_pager-1", "order-any-1", "pager-1", "Order", "7", `{"id": 7}`, 0, "bureau_away"}
	second := first
	second.tries, second.class = 1, "panic"
	require.Equal(t, []seen{first, second}, attempts)
}

// signedConfig is the table of an action that does more before a webhook is sent.
type signedConfig struct {
	handlers.WebhookConfig
	Secrets []string `toml:"secrets" doc:"entity ids that nobody hears of"`
}

func TestATeamsActionMayWrapABuiltinOne(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 2)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		bodies <- r.URL.Path + " " + r.Header.Get("X-Team")
	}))
	defer receiver.Close()
	option := WithAction("pager", func(cfg *signedConfig, env handlers.Env) (handlers.Action, error) {
		webhook, err := handlers.NewWebhook(&cfg.WebhookConfig, env)
		if err != nil {
			return nil, err
		}
		return quiet{webhook, cfg.Secrets}, nil
	})
	cfg := pagerFile(t, `url = "`+receiver.URL+`/{{ event.entity_id }}"`, `headers.X-Team = "shop"`, `secrets = ["8"]`)
	r := observerWith(t, oneOrder+"\n"+strings.ReplaceAll(oneOrder, "7", "8"), []Option{option}, "run", "--config", cfg, "--input", "-")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.out, "2 delivered")
	require.Equal(t, "/7 shop", <-bodies)
	require.Empty(t, bodies)

	cfg = pagerFile(t, `url = "http://10.0.0.1/{{ event.entity_id"`)
	r = observerWith(t, "", []Option{option}, "run", "--config", cfg, "--validate")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, cfg+":6:7: observers[0].actions[0].url: ")
}

// quiet is an action around another that keeps some secrets.
type quiet struct {
	handlers.Action
	secrets []string
}

func (q quiet) Run(ctx context.Context, d *event.Delivery) error {
	if slices.Contains(q.secrets, d.Event.EntityID) {
		return nil
	}
	return q.Action.Run(ctx, d)
}

// checked is an action that knows whether what it needs is there.
type checked struct{ does }

func (checked) Check(context.Context) (string, error) { return "the pager beeps", nil }

func TestDryRunAsksATeamsAction(t *testing.T) {
	t.Parallel()
	option := WithAction("pager", func(*struct{}, handlers.Env) (handlers.Action, error) { return checked{}, nil })
	r := observerWith(t, "", []Option{option}, "run", "--config", pagerFile(t), "--dry-run")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.out, "the pager beeps")
}
