package cmd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

const away = "nats://127.0.0.1:1"

// busConfig is a worker, with a bridge where database is not empty.
func busConfig(t *testing.T, nats, database string) string {
	t.Helper()
	text := fmt.Sprintf("[transport]\ntransport = \"nats\"\nrun_bridge = %t\n[transport.nats]\nurl = %q\n", database != "", nats)
	if database != "" {
		text += fmt.Sprintf("[transport.postgres]\nurl = %q\n", database)
	}
	return file(t, "bus.toml", text+"[[observers]]\nentity = \"Order\"\nactions = [{ type = \"log\", message_template = \"changed\" }]\n")
}

func TestADryRunOfABridgeLooksAtBothSidesAndChangesNothing(t *testing.T) {
	t.Parallel()
	url, database := natsenv.JetStream(t), testenv.Postgres(t)
	cfg := busConfig(t, url, database)
	out := succeeds(t, "run", "--config", cfg, "--dry-run")
	require.Regexp(t, `(?m)^ok +nats +answers, 2\.`, out)
	require.Regexp(t, `(?m)^ok +stream +fraiseql_events is missing; run creates it`, out)
	require.Regexp(t, `(?m)^ok +postgres +answers$`, out)
	require.Regexp(t, `(?m)^ok +schema +is missing or outdated; run creates it`, out)
	conn, err := natsgo.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	names := js.StreamNames(t.Context())
	require.Empty(t, <-names.Name())
	require.NoError(t, names.Err())
	require.False(t, one[bool](t, connect(t, database), `select to_regclass('core.tb_entity_change_log') is not null`))

	succeeds(t, "migrate", "--config", cfg)
	out = succeeds(t, "run", "--config", cfg, "--dry-run")
	require.Regexp(t, `(?m)^ok +checkpoint +none yet`, out)
	require.Regexp(t, `(?m)^note +captures +no table is captured as Order`, out)
	worker := succeeds(t, "run", "--config", busConfig(t, url, ""), "--dry-run")
	require.NotContains(t, worker, "postgres")
}

// TestABridgeAloneNeedsNothingThatActionsNeed has the file of its workers.
func TestABridgeAloneNeedsNothingThatActionsNeed(t *testing.T) {
	t.Parallel()
	url, database := natsenv.JetStream(t), testenv.Postgres(t)
	cfg := file(t, "bridge.toml", fmt.Sprintf(`
[transport]
transport = "nats"
run_bridge = true
run_executors = false
[transport.nats]
url = %q
[transport.postgres]
url = %q
[performance]
enable_dedup = true
[redis]
url = "redis://127.0.0.1:1"
[[observers]]
name = "shipped"
entity = "Order"
actions = [{ type = "webhook", url_env = "TEST_MISSING" }]
`, url, database))
	out := succeeds(t, "run", "--config", cfg, "--dry-run")
	require.Regexp(t, `(?m)^ok +postgres +answers$`, out)
	require.NotContains(t, out, "redis")
	require.NotContains(t, out, "shipped")
	r := observer(t, `{"entity_type": "Order", "data": {}}`, "explain", "--config", cfg, "--event", "-")
	require.Contains(t, r.err, "TEST_MISSING", "what an action would send is asked of its workers' environment")
	succeeds(t, "migrate", "--config", cfg)
	r = observer(t, "", "checkpoint", "set", "observer", "--to", "now", "--config", cfg)
	require.Equal(t, exitRuntime, r.code)
	require.Contains(t, r.err, "known: pg_to_nats")
}

func TestADryRunFailsWhereNATSIsAwayAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := observer(t, "", "run", "--config", busConfig(t, away, testenv.Postgres(t)), "--dry-run")
	require.Equal(t, exitRuntime, r.code)
	require.Regexp(t, `(?m)^FAILED +nats +connect to NATS: .*refused: check that the server runs with JetStream and that transport.nats.url reaches it$`, r.out)
	require.Regexp(t, `(?m)^ok +postgres +answers$`, r.out)
	require.Contains(t, r.err, "1 checks failed")
}

// TestCommandsForTheDatabaseNeedNoNATS has a server that is away, with the URL where the bridge's process has it.
func TestCommandsForTheDatabaseNeedNoNATS(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t)
	cfg := busConfig(t, away, database)
	run(t, connect(t, database), `create table orders (id int primary key)`)
	succeeds(t, "migrate", "--config", cfg)
	require.Contains(t, succeeds(t, "capture", "add", "orders", "--entity", "Order", "--config", cfg), "next: observer run --config "+cfg)
	require.Contains(t, succeeds(t, "capture", "list", "--config", cfg), "Order")
	succeeds(t, "checkpoint", "set", "pg_to_nats", "--to", "now", "--config", cfg)
	require.Contains(t, succeeds(t, "checkpoint", "list", "--config", cfg), "pg_to_nats")
	succeeds(t, "checkpoint", "remove", "pg_to_nats", "--config", cfg)
	succeeds(t, "capture", "remove", "orders", "--config", cfg)
}

func TestCommandsForTheDatabaseNameTheKeyWhereThereIsNone(t *testing.T) {
	t.Parallel()
	cfg := busConfig(t, away, "")
	for name, args := range databaseCommands {
		if strings.HasPrefix(name, "dlq") || name == "emit" { // theirs are on the bus
			continue
		}
		r := observer(t, "", slices.Concat(args, []string{"--config", cfg})...)
		require.Equal(t, exitUsage, r.code, "%s: %s", name, r.err)
		require.Contains(t, r.err, "set transport.postgres.url, or DATABASE_URL, to postgres://", name)
	}
}

func TestAfterCaptureABridgeNeedsNoObserver(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t)
	cfg := file(t, "bridge.toml", fmt.Sprintf("[transport]\ntransport = \"nats\"\nrun_bridge = true\nrun_executors = false\n[transport.postgres]\nurl = %q\n", database))
	run(t, connect(t, database), `create table orders (id int primary key)`)
	succeeds(t, "migrate", "--config", cfg)
	require.Contains(t, succeeds(t, "capture", "add", "orders", "--config", cfg), "next: observer run --config "+cfg)
}

func TestEmitPublishesIntoTheStream(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	cfg := busConfig(t, url, "")
	ids := strings.Fields(succeeds(t, "emit", "--entity", "Order", "--id", "7", "--data", `{"n": 12345678901234567890}`, "--config", cfg))
	require.Len(t, ids, 1)
	conn, err := natsgo.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "fraiseql_events")
	require.NoError(t, err)
	msg, err := stream.GetLastMsgForSubject(t.Context(), "fraiseql.mutation.Order.CUSTOM")
	require.NoError(t, err)
	require.Equal(t, ids[0], msg.Header.Get(natsgo.MsgIdHdr))
	var e struct {
		ID       string          `json:"id"`
		EntityID string          `json:"entity_id"`
		Data     json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal(msg.Data, &e))
	require.Equal(t, ids[0], e.ID)
	require.Equal(t, "7", e.EntityID)
	require.JSONEq(t, `{"n": 12345678901234567890}`, string(e.Data))
}

func TestEmitSaysWhyNothingTakesTheEvent(t *testing.T) {
	t.Parallel()
	emit := []string{"emit", "--entity", "Order", "--data", "{}", "--config"}
	for name, test := range map[string]struct {
		cfg, says string
		code      int
	}{
		"events that come from a file": {quickstart, `emit needs a transport that keeps events, the file says "in_memory": its events come from observer run --input FILE`, exitUsage},
		"a server inside a process": {
			"[transport]\ntransport = \"nats\"\n[transport.nats]\nembedded = true\n", "transport.nats.embedded = true: that server can be reached in its own process only", exitUsage,
		},
		"a server that is away": {
			"[transport]\ntransport = \"nats\"\n[transport.nats]\nurl = \"" + away + "\"\n", "check that the server runs and that transport.nats.url reaches it", exitRuntime,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observer(t, "", slices.Concat(emit, []string{file(t, "observer.toml", test.cfg)})...)
			require.Equal(t, test.code, r.code, r.err)
			require.Contains(t, r.err, test.says)
			require.Empty(t, r.out)
		})
	}
}
