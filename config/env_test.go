package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// find returns the merged setting of key.
func find(t *testing.T, cfg *Config, key string) Setting {
	t.Helper()
	for _, s := range cfg.Merged() {
		if s.Key == key {
			return s
		}
	}
	require.Fail(t, "no such key", key)
	return Setting{}
}

func TestShortVariablesSetTheirKeys(t *testing.T) {
	// The table of the contract; secrets are compared by their source alone.
	tests := map[string]struct {
		key, text string
		want      any
	}{
		"DATABASE_URL":                        {"transport.postgres.url", "postgres://localhost/app", nil},
		"FRAISEQL_OBSERVER_TRANSPORT":         {"transport.transport", "in_memory", "in_memory"},
		"FRAISEQL_NATS_ENABLE_BRIDGE":         {"transport.run_bridge", "no", false},
		"FRAISEQL_NATS_RUN_EXECUTORS":         {"transport.run_executors", "on", true},
		"FRAISEQL_NATS_URL":                   {"transport.nats.url", "nats://other:4222", nil},
		"FRAISEQL_NATS_SUBJECT_PREFIX":        {"transport.nats.subject_prefix", "a.b", "a.b"},
		"FRAISEQL_NATS_CONSUMER_NAME":         {"transport.nats.consumer_name", "me", "me"},
		"FRAISEQL_NATS_STREAM_NAME":           {"transport.nats.stream_name", "s", "s"},
		"FRAISEQL_NATS_DEDUP_WINDOW_MINUTES":  {"transport.nats.jetstream.dedup_window_minutes", "7", 7},
		"FRAISEQL_NATS_MAX_AGE_DAYS":          {"transport.nats.jetstream.max_age_days", "7", 7},
		"FRAISEQL_NATS_MAX_MSGS":              {"transport.nats.jetstream.max_msgs", "5000000000", int64(5_000_000_000)},
		"FRAISEQL_NATS_MAX_BYTES":             {"transport.nats.jetstream.max_bytes", "5000000000", int64(5_000_000_000)},
		"FRAISEQL_NATS_ACK_WAIT_SECS":         {"transport.nats.jetstream.ack_wait_secs", "7", 7},
		"FRAISEQL_NATS_MAX_DELIVER":           {"transport.nats.jetstream.max_deliver", "7", 7},
		"FRAISEQL_BRIDGE_TRANSPORT_NAME":      {"transport.bridge.transport_name", "b", "b"},
		"FRAISEQL_BRIDGE_BATCH_SIZE":          {"transport.bridge.batch_size", "7", 7},
		"FRAISEQL_BRIDGE_POLL_INTERVAL_SECS":  {"transport.bridge.poll_interval_secs", "7", 7},
		"FRAISEQL_BRIDGE_NOTIFY_CHANNEL":      {"transport.bridge.notify_channel", "c", "c"},
		"FRAISEQL_REDIS_URL":                  {"redis.url", "redis://other", nil},
		"FRAISEQL_REDIS_POOL_SIZE":            {"redis.pool_size", "7", 7},
		"FRAISEQL_REDIS_CONNECT_TIMEOUT_SECS": {"redis.connect_timeout_secs", "7", 7},
		"FRAISEQL_REDIS_COMMAND_TIMEOUT_SECS": {"redis.command_timeout_secs", "7", 7},
		"FRAISEQL_REDIS_DEDUP_WINDOW_SECS":    {"redis.dedup_window_secs", "7", 7},
		"FRAISEQL_REDIS_CACHE_TTL_SECS":       {"redis.cache_ttl_secs", "7", 7},
		"FRAISEQL_ENABLE_DEDUP":               {"performance.enable_dedup", "0", false},
		"FRAISEQL_ENABLE_CACHING":             {"performance.enable_caching", "OFF", false},
		"FRAISEQL_ENABLE_CONCURRENT":          {"performance.enable_concurrent", "False", false},
		"FRAISEQL_MAX_CONCURRENT_ACTIONS":     {"performance.max_concurrent_actions", "7", 7},
		"FRAISEQL_CONCURRENT_TIMEOUT_MS":      {"performance.concurrent_timeout_ms", "7", 7},
		"FRAISEQL_CHANNEL_CAPACITY":           {"performance.channel_capacity", "7", 7},
		"FRAISEQL_MAX_CONCURRENCY":            {"performance.max_concurrency", "7", 7},
		"FRAISEQL_BACKLOG_ALERT_THRESHOLD":    {"performance.backlog_alert_threshold", "7", 7},
		"FRAISEQL_SHUTDOWN_TIMEOUT":           {"performance.shutdown_timeout", "7s", "7s"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			t.Setenv(name, tt.text)
			cfg, err := Load("", Options{Needs: NeedsNothing})
			require.NoError(t, err)
			s := find(t, cfg, tt.key)
			require.Equal(t, "env:"+name, s.Source)
			if tt.want != nil {
				require.Equal(t, tt.want, s.Value)
			}
		})
	}
}

func TestEveryKeyHasAVariableOfItsOwn(t *testing.T) {
	setEnvironment(t)
	cfg, err := Load("", Options{Needs: NeedsNothing})
	require.NoError(t, err)
	owner := map[string]string{}
	doc, problem := parse("", nil)
	require.Nil(t, problem)
	m, err := merge(doc)
	require.NoError(t, err)
	require.Len(t, m.names, len(cfg.Merged()))
	for key, names := range m.names {
		for _, name := range names {
			if owner[name] != key { // FRAISEQL_REDIS_URL is both forms of one key
				require.Empty(t, owner[name], "%s sets %s and %s", name, owner[name], key)
			}
			owner[name] = key
		}
	}
	require.Equal(t, "transport.nats.jetstream.replicas", owner["FRAISEQL_TRANSPORT_NATS_JETSTREAM_REPLICAS"])
	require.Equal(t, "log.level", owner["FRAISEQL_LOG_LEVEL"])
}

func TestEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	const file = "[transport]\ntransport = \"in_memory\"\n[redis]\npool_size = 20\ncache_ttl_secs = 30\n"
	tests := map[string]struct {
		env    map[string]string
		key    string
		value  any
		source string
	}{
		"the default where nothing sets the key": {nil, "redis.dedup_window_secs", 300, "default"},
		"the file over the default":              {nil, "redis.pool_size", 20, "file:4"},
		"the environment over the file":          {map[string]string{"FRAISEQL_REDIS_POOL_SIZE": "5"}, "redis.pool_size", 5, "env:FRAISEQL_REDIS_POOL_SIZE"},
		"an empty variable counts as not set":    {map[string]string{"FRAISEQL_REDIS_POOL_SIZE": ""}, "redis.pool_size", 20, "file:4"},
		"the full name over the short one": {
			map[string]string{"FRAISEQL_PERFORMANCE_MAX_CONCURRENCY": "5", "FRAISEQL_MAX_CONCURRENCY": "6"},
			"performance.max_concurrency", 5, "env:FRAISEQL_PERFORMANCE_MAX_CONCURRENCY",
		},
		"an empty variable of a key to which nothing says something": {map[string]string{"FRAISEQL_ADMIN_LISTEN": ""}, "admin.listen", "", "env:FRAISEQL_ADMIN_LISTEN"},
		"a list is separated by commas": {
			map[string]string{"FRAISEQL_SECURITY_ALLOW_CIDRS": "10.0.0.0/8, 192.0.2.0/24"},
			"security.allow_cidrs",
			[]string{"10.0.0.0/8", "192.0.2.0/24"},
			"env:FRAISEQL_SECURITY_ALLOW_CIDRS",
		},
		"another word for a transport":  {map[string]string{"FRAISEQL_OBSERVER_TRANSPORT": "memory"}, "transport.transport", "in_memory", "env:FRAISEQL_OBSERVER_TRANSPORT"},
		"a third word for a transport":  {map[string]string{"FRAISEQL_OBSERVER_TRANSPORT": "inmemory"}, "transport.transport", "in_memory", "env:FRAISEQL_OBSERVER_TRANSPORT"},
		"another word for the database": {map[string]string{"FRAISEQL_OBSERVER_TRANSPORT": "postgresql", "DATABASE_URL": "postgres://h/d"}, "transport.transport", "postgres", "env:FRAISEQL_OBSERVER_TRANSPORT"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			cfg, err := load("f.toml", []byte(file), Options{})
			require.NoError(t, err)
			require.Equal(t, Setting{tt.key, tt.value, tt.source}, find(t, cfg, tt.key))
		})
	}
}

func TestAVariableThatDoesNotParseIsNamed(t *testing.T) {
	tests := map[string]struct{ name, value, want string }{
		"text for a number": {
			"FRAISEQL_REDIS_POOL_SIZE", "hunter2",
			"env:FRAISEQL_REDIS_POOL_SIZE: redis.pool_size: is text, not an integer (write a whole number from 1 to 10000)",
		},
		"a fraction for an integer": {
			"FRAISEQL_REDIS_POOL_SIZE", "1.5",
			"env:FRAISEQL_REDIS_POOL_SIZE: redis.pool_size: is a number, not an integer (write a whole number from 1 to 10000)",
		},
		"a number beyond its bounds": {
			"FRAISEQL_REDIS_POOL_SIZE", "0",
			"env:FRAISEQL_REDIS_POOL_SIZE: redis.pool_size: is too small (write a whole number from 1 to 10000)",
		},
		"a number beyond 64 bits": {
			"FRAISEQL_NATS_MAX_MSGS", "99999999999999999999",
			"env:FRAISEQL_NATS_MAX_MSGS: transport.nats.jetstream.max_msgs: is a number, not an integer (write a whole number from 1 to 1000000000000)",
		},
		"a word that is no boolean": {
			"FRAISEQL_ENABLE_CONCURRENT", "maybe",
			"env:FRAISEQL_ENABLE_CONCURRENT: performance.enable_concurrent: is text, not a boolean (write true, false, 1, 0, yes, no, on or off)",
		},
		"a number that is no boolean": {
			"FRAISEQL_ENABLE_CONCURRENT", "2",
			"env:FRAISEQL_ENABLE_CONCURRENT: performance.enable_concurrent: is an integer, not a boolean (write true, false, 1, 0, yes, no, on or off)",
		},
		"a duration without its unit": {
			"FRAISEQL_SHUTDOWN_TIMEOUT", "25",
			`env:FRAISEQL_SHUTDOWN_TIMEOUT: performance.shutdown_timeout: is an integer, not a duration (write a duration such as "30s" from 0s to 1h)`,
		},
		"a word that is not allowed": {
			"FRAISEQL_LOG_FORMAT", "hunter2",
			`env:FRAISEQL_LOG_FORMAT: log.format: is not one of the allowed values (allowed: "text", "json")`,
		},
		"an item that is no network": {
			"FRAISEQL_SECURITY_ALLOW_CIDRS", "10.0.0.0/8,hunter2",
			`env:FRAISEQL_SECURITY_ALLOW_CIDRS: security.allow_cidrs[1]: is not a network (write an address and a length, such as "10.0.0.0/8" or "192.0.2.7/32")`,
		},
		"a database URL of another kind": {
			"DATABASE_URL", "mysql://hunter2@localhost",
			"env:DATABASE_URL: transport.postgres.url: is not the URL of a Postgres database (write " + urlForm + ")",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			t.Setenv(tt.name, tt.value)
			_, err := Load("", Options{Needs: NeedsNothing})
			require.EqualError(t, err, tt.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestBooleansInTheEnvironment(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "1": true, "yes": true, "on": true, "TRUE": true,
		"false": false, "0": false, "no": false, "off": false, "Off": false,
	} {
		t.Run(text, func(t *testing.T) {
			setEnvironment(t)
			t.Setenv("FRAISEQL_ENABLE_CONCURRENT", text)
			cfg, err := Load("", Options{Needs: NeedsNothing})
			require.NoError(t, err)
			require.Equal(t, want, cfg.Performance.EnableConcurrent)
		})
	}
}

func TestAMisspeltVariableIsWarnedAbout(t *testing.T) {
	setEnvironment(t)
	t.Setenv("FRAISEQL_REDIS_POOLSIZE", "5")
	t.Setenv("FRAISEQL_SOMETHING_OF_ANOTHER_PROGRAM", "5")
	cfg, err := Load("", Options{Needs: NeedsNothing})
	require.NoError(t, err)
	require.Len(t, cfg.Warnings, 1)
	require.Equal(t, "env:FRAISEQL_REDIS_POOLSIZE: names no key (did you mean FRAISEQL_REDIS_POOL_SIZE?)", cfg.Warnings[0].String())
}

func TestTwoVariablesOfOneKeyWithDifferentValuesAreWarnedAbout(t *testing.T) {
	for name, test := range map[string]struct {
		short string
		want  []string
	}{
		"different": {"7", []string{"env:FRAISEQL_MAX_CONCURRENCY: performance.max_concurrency: has another value than FRAISEQL_PERFORMANCE_MAX_CONCURRENCY, which counts (unset one of them)"}},
		"the same":  {"5", nil},
		"one empty": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			t.Setenv("FRAISEQL_PERFORMANCE_MAX_CONCURRENCY", "5")
			t.Setenv("FRAISEQL_MAX_CONCURRENCY", test.short)
			cfg, err := Load("", Options{Needs: NeedsNothing})
			require.NoError(t, err)
			var got []string
			for _, w := range cfg.Warnings {
				got = append(got, w.String())
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestAVariableWithoutEffectIsWarnedAbout(t *testing.T) {
	setEnvironment(t)
	t.Setenv("FRAISEQL_REDIS_URL", "redis://:hunter2@localhost")
	t.Setenv("FRAISEQL_NATS_MAX_DELIVER", "5")
	cfg, err := load("f.toml", []byte(memory+"type = \"log\"\nmessage_template = \"x\"\n"), Options{})
	require.NoError(t, err)
	require.Len(t, cfg.Warnings, 1)
	require.Equal(t, "env:FRAISEQL_REDIS_URL: redis.url: has no effect in this topology", cfg.Warnings[0].String())
}

func TestWakeIsForcedOnlyWhereSomebodyAsksForIt(t *testing.T) {
	tests := map[string]struct {
		file, env string
		want      bool
	}{
		"not by the default":          {"", "", false},
		"by the file":                 {`wake = "notify"`, "", true},
		"by the environment":          {"", "notify", true},
		"not when the file polls":     {`wake = "poll"`, "", false},
		"not when environment polls":  {`wake = "notify"`, "poll", false},
		"by environment over polling": {`wake = "poll"`, "notify", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t)
			t.Setenv("FRAISEQL_TRANSPORT_POSTGRES_WAKE", tt.env)
			cfg, err := load("f.toml", []byte("[transport.postgres]\n"+tt.file), Options{Needs: NeedsNothing})
			require.NoError(t, err)
			require.Equal(t, tt.want, cfg.Transport.Postgres.WakeForced)
		})
	}
}
