package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

// limits is embedded, as a program's action may share keys between its types.
type limits struct {
	Rate float64 `toml:"rate" min:"0.5" max:"100"`
}

type pagerConfig struct {
	limits
	Key     secret.String `toml:"key" required:"true"`
	Wait    time.Duration `toml:"wait" default:"5s" min:"1s" max:"1m"`
	Level   uint8         `toml:"level" default:"3"`
	Tags    []string      `toml:"tags" enum:"a,b"`
	Windows []struct {
		From string `toml:"from" required:"true"`
	} `toml:"windows"`
	TLS struct {
		CA string `toml:"ca" default:"system"`
	} `toml:"tls"`
}

func withPager() Options {
	actions := BuiltinActions()
	actions["pager"] = func() any { return new(pagerConfig) }
	return Options{Actions: actions, Middleware: []string{"tracing", "audit"}}
}

const memory = "transport.transport = \"in_memory\"\n[[observers]]\nentity = \"Order\"\n[[observers.actions]]\n"

func TestARegisteredActionIsDecodedIntoItsOwnStruct(t *testing.T) {
	setEnvironment(t)
	cfg, err := load("f.toml", []byte(memory+`type = "pager"
middleware = ["audit"]
key = "${TEST_PASSWORD}"
rate = 2
wait = "7s"
tags = ["a"]
[[observers.actions.windows]]
from = "08:00"
`), withPager())
	require.NoError(t, err)
	a := cfg.Observers[0].Actions[0]
	require.Equal(t, []string{"audit"}, a.Middleware)
	got, ok := a.Config.(*pagerConfig)
	require.True(t, ok)
	require.Equal(t, "hunter2", got.Key.Reveal())
	require.InDelta(t, 2, got.Rate, 0)
	require.Equal(t, 7*time.Second, got.Wait)
	require.Equal(t, uint8(3), got.Level)
	require.Equal(t, "08:00", got.Windows[0].From)
	require.Equal(t, "system", got.TLS.CA)
	require.Equal(t, Setting{"observers[0].actions[0].tls.ca", "system", "default"}, find(t, cfg, "observers[0].actions[0].tls.ca"))
}

func TestMistakesInARegisteredActionAreFound(t *testing.T) {
	setEnvironment(t)
	_, err := load("f.toml", []byte(memory+`type = "pager"
middleware = ["audi"]
rate = 0.1
wait = "2h"
level = 256
tags = ["a", "c"]
url = "x"
[[observers.actions.windows]]
form = "08:00"
[observers.actions.tls]
ca = 1
`), withPager())
	require.EqualError(t, err, `f.toml:4:3: observers[0].actions[0].key: is missing (add key = …)
f.toml:6:15: observers[0].actions[0].middleware[0]: no such middleware is registered: "audi" (did you mean "audit"?)
f.toml:7:8: observers[0].actions[0].rate: is too small: 0.1 (write a number from 0.5 to 100)
f.toml:8:8: observers[0].actions[0].wait: is too long: "2h" (write a duration such as "30s" from 1s to 1m)
f.toml:9:9: observers[0].actions[0].level: is too large: 256 (write a whole number)
f.toml:10:14: observers[0].actions[0].tags[1]: is not one of the allowed values: "c" (did you mean "a"? allowed: "a", "b")
f.toml:11:1: observers[0].actions[0].url: unknown key (known: type, name, middleware, rate, key, wait, level, tags, windows, tls)
f.toml:13:1: observers[0].actions[0].windows[0].form: unknown key (did you mean "from"?)
f.toml:15:6: observers[0].actions[0].tls.ca: is an integer, not text (write a text in quotes)`)
}

func TestPositionsOfValues(t *testing.T) {
	setEnvironment(t)
	t.Setenv("DATABASE_URL", "postgres://localhost/app")
	cfg, err := Load(filepath.Join("testdata", "contract.good.toml"), Options{})
	require.NoError(t, err)
	inline, err := load("f.toml", []byte("observers = [{ entity = \"Order\", actions = [{ type = \"webhook\", url = \"https://x\", headers = { \"X.Y\" = \"z\" } }] }]\n"), Options{Needs: NeedsNothing})
	require.NoError(t, err)
	tests := map[string]struct {
		cfg  *Config
		key  string
		want string
	}{
		"a value in a table":                        {cfg, "log.level", cfg.File + ":88:9"},
		"a value in a nested array of tables":       {cfg, "observers[0].actions[0].url", cfg.File + ":105:7"},
		"a value in a table of the newest observer": {cfg, "observers[0].retry.jitter", cfg.File + ":113:10"},
		"a table": {cfg, "observers[0]", cfg.File + ":91:3"},
		"a key that is not there has its table's":    {cfg, "observers[0].actions[0].headers", cfg.File + ":102:3"},
		"a value of the environment":                 {cfg, "transport.postgres.url", "env:DATABASE_URL"},
		"a table that is not there has the file's":   {cfg, "nothing.at.all", cfg.File + ":1:1"},
		"a value in an inline table":                 {inline, "observers[0].actions[0].url", "f.toml:1:71"},
		"a header whose name has a dot":              {inline, `observers[0].actions[0].headers."X.Y"`, "f.toml:1:104"},
		"a default of a file without the table":      {inline, "redis.pool_size", "f.toml:1:1"},
		"a default of the action in an inline table": {inline, "observers[0].actions[0].method", "f.toml:1:45"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.cfg.At(tt.key).String())
		})
	}
}

func TestTheCallersProblemsComeWithTheOthersInTheOrderOfTheFile(t *testing.T) {
	setEnvironment(t)
	check := func(c *Config) []Problem {
		require.Equal(t, "data.", c.Observers[0].Condition)
		return []Problem{c.Problem("observers[0].condition", "is not an expression", "")}
	}
	cfg, err := load("f.toml", []byte("transport.transport = \"in_memory\"\nfirst = 1\n[[observers]]\ncondition = \"data.\"\nentity = 5\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"x\"\n"), Options{Check: check})
	require.NotNil(t, cfg)
	require.EqualError(t, err, `f.toml:2:1: first: unknown key (known: transport, redis, performance, pipeline, smtp, security, admin, log, observers)
f.toml:4:13: observers[0].condition: is not an expression
f.toml:5:10: observers[0].entity: is an integer, not text (write a text in quotes)`)
}

func TestWhatACommandNeeds(t *testing.T) {
	const file = "[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\nurl_env = \"TEST_MISSING\"\n"
	const (
		noURL = "f.toml:1:1: transport.postgres.url: is missing (set it, or DATABASE_URL, to " + urlForm + ")\n"
		noEnv = "f.toml:5:11: observers[0].actions[0].url_env: the environment variable is not set: \"TEST_MISSING\" (set it)\n"
	)
	tests := map[string]struct {
		needs Needs
		want  string
	}{
		"running needs the database and the variables": {NeedsAll, noURL + noEnv},
		"the tables need the database":                 {NeedsDatabase, noURL},
		"an expression needs neither":                  {NeedsNothing, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			_, err := load("f.toml", []byte(file), Options{Needs: tt.needs})
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, tt.want[:len(tt.want)-1])
		})
	}
}

func TestADisabledObserverNeedsNoVariables(t *testing.T) {
	setEnvironment(t)
	_, err := load("f.toml", []byte("transport.transport = \"in_memory\"\n[[observers]]\nentity = \"Order\"\nenabled = false\n[[observers.actions]]\ntype = \"webhook\"\nurl_env = \"TEST_MISSING\"\n"), Options{})
	require.NoError(t, err)
}

func TestWithoutAFileTheDatabaseComesFromTheEnvironment(t *testing.T) {
	setEnvironment(t)
	_, err := Load("", Options{Needs: NeedsDatabase})
	require.EqualError(t, err, "transport.postgres.url: is missing (set it, or DATABASE_URL, to "+urlForm+")")
	t.Setenv("DATABASE_URL", "host=/tmp dbname=app")
	cfg, err := Load("", Options{Needs: NeedsDatabase})
	require.NoError(t, err)
	require.Equal(t, "host=/tmp dbname=app", cfg.Transport.Postgres.URL.Reveal())
}

func TestAFileThatCannotBeRead(t *testing.T) {
	_, err := Load("missing.toml", Options{})
	require.EqualError(t, err, "missing.toml: read file: no such file or directory (name an existing file with --config FILE)")
	_, err = Load(t.TempDir(), Options{})
	require.ErrorContains(t, err, "read file: is a directory")
	_, err = Load(os.DevNull, Options{Needs: NeedsNothing})
	require.NoError(t, err, "an empty file holds the defaults")
}

func TestAdminAddresses(t *testing.T) {
	tests := map[string]struct {
		listen, token string
		ok            bool
	}{
		"loopback":                             {"127.0.0.1:7077", "", true},
		"loopback of version 6":                {"[::1]:7077", "", true},
		"localhost":                            {"localhost:7077", "", true},
		"turned off":                           {"", "", true},
		"every address without a token":        {":7077", "", false},
		"every address with a token":           {":7077", "TEST_PASSWORD", true},
		"every address with a token not set":   {":7077", "TEST_MISSING", false},
		"a name without a token":               {"observer.internal:7077", "", false},
		"a port that is none":                  {"127.0.0.1:http", "", false},
		"a port beyond 65535":                  {"127.0.0.1:70770", "", false},
		"a token although it is loopback":      {"127.0.0.1:7077", "TEST_PASSWORD", true},
		"a version 6 address without brackets": {"::1:7077", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			_, err := load("f.toml", []byte("transport.transport = \"in_memory\"\n[admin]\nlisten = \""+tt.listen+"\"\ntoken_env = \""+tt.token+"\"\n"), Options{})
			require.Equal(t, tt.ok, err == nil, err)
		})
	}
}

func TestSecretsDoNotReachTheMergedResult(t *testing.T) {
	setEnvironment(t)
	t.Setenv("FRAISEQL_REDIS_URL", "redis://:hunter2@localhost")
	cfg, err := load("f.toml", []byte("[transport.postgres]\nurl = \"postgres://a:hunter2@h/d\"\n[[observers]]\nentity = \"${TEST_PASSWORD}\"\nmiddleware = [\"${TEST_PASSWORD}\"]\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://hunter2/\"\nheaders = { a = \"hunter2\" }\n"), Options{Middleware: []string{"hunter2"}})
	require.NoError(t, err)
	webhook, ok := cfg.Observers[0].Actions[0].Config.(*handlers.WebhookConfig)
	require.True(t, ok)
	require.Equal(t, "https://hunter2/", webhook.URL.Reveal())
	data, err := json.Marshal(cfg.Merged())
	require.NoError(t, err)
	require.NotContains(t, string(data), "hunter2")
	require.Contains(t, string(data), `{"key":"transport.postgres.url","value":"***","source":"file:2"}`)
	require.Contains(t, string(data), `{"key":"redis.url","value":"***","source":"env:FRAISEQL_REDIS_URL"}`)
}

func TestSecretsDoNotReachTheErrors(t *testing.T) {
	setEnvironment(t)
	_, err := load("f.toml", []byte(`
transport.transport = "${TEST_PASSWORD}"
[performance]
max_concurrency = "${TEST_PASSWORD}"
shutdown_timeout = "${TEST_PASSWORD}"
[transport.postgres]
url = "hunter2"
start_from = "${TEST_PASSWORD}"
[admin]
listen = "${TEST_PASSWORD}"
token_env = "${TEST_PASSWORD}"
[security]
allow_cidrs = ["${TEST_PASSWORD}"]
[transport.nats]
stream_name = "${TEST_PASSWORD}.a"
[[observers]]
entity = "${TEST_PASSWORD}"
name = "${TEST_PASSWORD}"
actions = [{ type = "${TEST_PASSWORD}" }, { type = "log", name = "${TEST_PASSWORD}!", message_template = "" }]
[[observers]]
entity = "x"
name = "${TEST_PASSWORD}"
middleware = ["${TEST_PASSWORD}"]
enabled = "${TEST_PASSWORD}"
event_type = "${TEST_PASSWORD}"
actions = [{ type = "webhook", url_env = "${TEST_PASSWORD}" }]
`), Options{})
	var problems *Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems.List, 16, err)
	require.NotContains(t, err.Error(), "hunter2")
}
