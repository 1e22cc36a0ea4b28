package handlers_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
)

// nastyRow holds what a careless program would run, cut off, round or break on.
const nastyRow = `{"id":9007199254740993,"total":12345678901234567890.10,"secret":"s3cret",` +
	`"note":"{{ data.secret }} \"q\" ' \\ \u0000 \ud800 \udfff <!channel> <b>&amp;\r\nX: y\u2028ü🦊"}`

const (
	natsAway  = "nats://127.0.0.1:1"
	redisAway = "redis://127.0.0.1:1"
)

func natsConfig(url string) *natsconn.Config { return &natsconn.Config{URL: secret.String(url)} }

func redisConfig(url string) *redisconn.Config {
	return &redisconn.Config{URL: secret.String(url), PoolSize: 10, ConnectTimeoutSecs: 5, CommandTimeoutSecs: 2}
}

// serversEnv is an Env with servers that end with the test.
func serversEnv(t *testing.T, cfg handlers.ServersConfig) handlers.Env {
	t.Helper()
	servers := handlers.NewServers(cfg)
	t.Cleanup(servers.Close)
	return handlers.Env{Servers: servers}
}

func publishAction(t *testing.T, env handlers.Env, cfg handlers.PublishConfig) handlers.Action {
	t.Helper()
	action, err := handlers.NewPublish(&cfg, env)
	require.NoError(t, err)
	return action
}

// orderOf is a delivery of an event of its own.
func orderOf(id, data string) *event.Delivery {
	d := delivery(data)
	d.Event.ID = id
	return d
}

// inTime runs an action that must not take long.
func inTime(t *testing.T, action handlers.Action, d *event.Delivery) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	begin := time.Now()
	err := action.Run(ctx, d)
	require.Less(t, time.Since(begin), 10*time.Second)
	return err
}

func requireTransient(t *testing.T, err error, classes ...string) {
	t.Helper()
	require.Error(t, err)
	require.False(t, event.IsPermanent(err), err)
	require.Contains(t, classes, event.Class(err), err)
}

// receive returns one message of a stock Watermill subscriber, acked.
func receive(t *testing.T, from message.Subscriber, topic string) *message.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	messages, err := from.Subscribe(ctx, topic)
	require.NoError(t, err)
	m := <-messages
	require.NotNil(t, m, "no message in time")
	m.Ack()
	require.NoError(t, from.Close())
	return m
}

// requireMessage compares what a reader got of a delivery.
func requireMessage(t *testing.T, m *message.Message, d *event.Delivery, payload string) {
	t.Helper()
	require.Equal(t, d.ID(), m.UUID)
	require.Equal(t, message.Metadata{
		"event_type": "UPDATE", "entity_type": "Order", "event_id": d.Event.ID, "observer": "order-shipped", "action": "notify",
	}, m.Metadata)
	require.True(t, json.Valid(m.Payload), string(m.Payload))
	require.Equal(t, payload, string(m.Payload))
}

// bodies are templates of payloads, and what becomes of the nasty row in them.
var bodies = map[string]struct{ template, want string }{
	"the event as JSON": {"", ""},
	"a template": {
		`{"id": {{ data.id }}, "total": {{ data.total }}, "text": "note: {{ data.note }}", "row": {{ event.data }}}`,
		`{"id": 9007199254740993, "total": 12345678901234567890.10, "text": "note: {{ data.secret }} \"q\" ' \\ \u0000 \ud800 \udfff ` +
			`<!channel> <b>&amp;\r\nX: y\u2028ü🦊", "row": ` + nastyRow + `}`,
	},
}

func TestPublishChoosesItsServer(t *testing.T) {
	t.Parallel()
	nats, redis := natsConfig(natsAway), redisConfig(redisAway)
	both := handlers.ServersConfig{NATS: nats, Redis: redis}
	tests := map[string]struct {
		servers             handlers.ServersConfig
		server              string
		request, key, wrong string
	}{
		"NATS alone":              {servers: handlers.ServersConfig{NATS: nats}, request: "publish to NATS subject orders.shipped"},
		"Redis alone":             {servers: handlers.ServersConfig{Redis: redis}, request: "XADD orders.shipped"},
		"both, and NATS named":    {servers: both, server: "nats", request: "publish to NATS subject orders.shipped"},
		"both, and Redis named":   {servers: both, server: "redis", request: "XADD orders.shipped"},
		"both, and none named":    {servers: both, key: "server", wrong: `write server = "nats" or server = "redis"`},
		"none":                    {key: "topic", wrong: "set url in [transport.nats] or in [redis]"},
		"NATS named, Redis there": {servers: handlers.ServersConfig{Redis: redis}, server: "nats", key: "server", wrong: "set url in [transport.nats]"},
		"Redis named, NATS there": {servers: handlers.ServersConfig{NATS: nats}, server: "redis", key: "server", wrong: "set url in [redis]"},
		"another one named":       {servers: both, server: "kafka", key: "server", wrong: `write "nats" or "redis"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			action, err := handlers.NewPublish(&handlers.PublishConfig{Topic: "orders.shipped", Server: test.server}, serversEnv(t, test.servers))
			if test.key != "" {
				requireKeyError(t, err, test.key, test.wrong)
				return
			}
			require.NoError(t, err)
			p, err := action.(handlers.Previewer).Preview(delivery(`{}`))
			require.NoError(t, err)
			require.Equal(t, test.request, p.Request)
		})
	}
}

func requireKeyError(t *testing.T, err error, key, text string) {
	t.Helper()
	list := handlers.KeyErrors(err)
	require.Len(t, list, 1, "%v", err)
	require.Equal(t, key, list[0].Key)
	require.ErrorContains(t, err, text)
}

func TestPublishRefusesWhatIsNoTopic(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		topic string
		want  string
		redis bool // refuses it as well
	}{
		"nothing":                       {"", "is empty", true},
		"a placeholder":                 {"orders.{{ data.status }}", "holds a placeholder", true},
		"a line end":                    {"orders\n", "holds a control character", true},
		"a space":                       {"orders shipped", "holds a space", false},
		"a space that is none of ASCII": {"orders\u2003shipped", "holds a space", false},
		"a star":                        {"orders.*", "holds a wildcard", false},
		"all that follows":              {"orders.>", "holds a wildcard", false},
		"a dot before":                  {".orders", "empty token", false},
		"a dot after":                   {"orders.", "empty token", false},
		"two dots":                      {"orders..shipped", "empty token", false},
		"the API of JetStream":          {"$JS.API.STREAM.DELETE.orders", "subject of the server itself", false},
		"the system account":            {"$SYS.REQ.SERVER.PING", "subject of the server itself", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := handlers.NewPublish(&handlers.PublishConfig{Topic: test.topic}, serversEnv(t, handlers.ServersConfig{NATS: natsConfig(natsAway)}))
			requireKeyError(t, err, "topic", test.want)
			_, err = handlers.NewPublish(&handlers.PublishConfig{Topic: test.topic}, serversEnv(t, handlers.ServersConfig{Redis: redisConfig(redisAway)}))
			if test.redis {
				requireKeyError(t, err, "topic", test.want)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func TestPublishReportsEveryKeyAtOnce(t *testing.T) {
	t.Parallel()
	_, err := handlers.NewPublish(&handlers.PublishConfig{BodyTemplate: `{"id": {{ data.id }`}, serversEnv(t, handlers.ServersConfig{NATS: natsConfig(natsAway)}))
	require.Len(t, handlers.KeyErrors(err), 2)
	_, err = handlers.NewPublish(&handlers.PublishConfig{Topic: "orders"}, handlers.Env{})
	require.ErrorContains(t, err, "no servers are given")
}

func TestPublishPreviewShowsTheMessage(t *testing.T) {
	t.Parallel()
	env := serversEnv(t, handlers.ServersConfig{NATS: natsConfig(natsAway)})
	cfg := handlers.PublishConfig{Topic: "orders.shipped", BodyTemplate: `{"id": {{ data.id }}}`}
	d := delivery(`{"id": 9007199254740993}`)
	p, err := publishAction(t, env, cfg).(handlers.Previewer).Preview(d)
	require.NoError(t, err)
	require.Equal(t, handlers.Preview{
		Request: "publish to NATS subject orders.shipped",
		Fields: []handlers.PreviewField{
			{Name: "event_type", Value: "UPDATE"},
			{Name: "entity_type", Value: "Order"},
			{Name: "event_id", Value: d.Event.ID},
			{Name: "observer", Value: "order-shipped"},
			{Name: "action", Value: "notify"},
		},
		Body: `{"id": 9007199254740993}`,
	}, p)

	_, err = publishAction(t, env, cfg).(handlers.Previewer).Preview(delivery(`{}`))
	require.True(t, event.IsPermanent(err))
	require.Equal(t, "template", event.Class(err))

	env.Hidden = func(string) bool { return true }
	p, err = publishAction(t, env, cfg).(handlers.Previewer).Preview(d)
	require.NoError(t, err)
	require.Equal(t, "publish to NATS subject "+secret.Mask, p.Request)
	require.Equal(t, secret.Mask, p.Body)
}

func TestPublishOfAMissingFieldSendsNothing(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]handlers.ServersConfig{"NATS": {NATS: natsConfig(natsAway)}, "Redis": {Redis: redisConfig(redisAway)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			action := publishAction(t, serversEnv(t, cfg), handlers.PublishConfig{Topic: "orders", BodyTemplate: `{"x": {{ data.nope }}}`})
			err := action.Run(t.Context(), delivery(`{}`))
			require.True(t, event.IsPermanent(err), "it fails before it asks the server, which is away")
			require.Equal(t, "template", event.Class(err))
		})
	}
}

func TestPublishOfAShutdownIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]handlers.ServersConfig{"NATS": {NATS: natsConfig(natsAway)}, "Redis": {Redis: redisConfig(redisAway)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := publishAction(t, serversEnv(t, cfg), handlers.PublishConfig{Topic: "orders"}).Run(ctx, delivery(`{}`))
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}
