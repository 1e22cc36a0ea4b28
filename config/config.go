package config

import (
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/postgres"
	"github.com/fraiseql/observer/pipeline/redis"
)

// DefaultFile is the file that commands read when no other is named and it exists.
const DefaultFile = "observer.toml"

// Config is everything that the file and the environment say, with defaults filled in. Build it with [Load].
type Config struct {
	Transport   Transport               `toml:"transport" doc:"where events come from"`
	Redis       redisconn.Config        `toml:"redis" doc:"the Redis server for deduplication, caching and the redis transport"`
	Performance Performance             `toml:"performance" doc:"how much work runs at the same time"`
	Pipeline    Pipeline                `toml:"pipeline" doc:"what stands around every action"`
	SMTP        handlers.SMTPConfig     `toml:"smtp" doc:"the mail server of email actions"`
	Security    handlers.SecurityConfig `toml:"security" doc:"which addresses actions may reach"`
	Admin       Admin                   `toml:"admin" doc:"address for health, metrics and status"`
	Log         Log                     `toml:"log" doc:"what is logged and how"`
	Observers   []Observer              `toml:"observers" doc:"what to do on which change"`

	// File is the path that was read, "" when there was none.
	File string `toml:"-"`
	// Warnings are findings that do not keep the program from running.
	Warnings []Problem `toml:"-"`

	values settings
}

// Transport is the [transport] table.
type Transport struct {
	Transport    string          `toml:"transport" default:"postgres" enum:"postgres,nats,redis,in_memory" env:"FRAISEQL_OBSERVER_TRANSPORT" envalias:"postgresql=postgres,memory=in_memory,inmemory=in_memory" doc:"which transport carries the events"`
	RunBridge    bool            `toml:"run_bridge" default:"false" env:"FRAISEQL_NATS_ENABLE_BRIDGE" doc:"move the Postgres change log to NATS; needs transport = \"nats\""`
	RunExecutors bool            `toml:"run_executors" default:"true" env:"FRAISEQL_NATS_RUN_EXECUTORS" doc:"run the observers"`
	Postgres     postgres.Config `toml:"postgres" doc:"the Postgres change log"`
	NATS         nats.Config     `toml:"nats" doc:"NATS JetStream"`
	Redis        redis.Config    `toml:"redis" doc:"Redis Streams; the server is [redis].url"`
	Bridge       Bridge          `toml:"bridge" doc:"from the Postgres change log to NATS"`
}

// Executes reports whether a process with this transport runs observers: of NATS, one may be a bridge alone.
func (t *Transport) Executes() bool { return t.Transport != "nats" || t.RunExecutors }

// Performance is the [performance] table.
type Performance struct {
	EnableDedup           bool          `toml:"enable_dedup" default:"false" env:"FRAISEQL_ENABLE_DEDUP" doc:"recognise deliveries that were done already; the record is in Redis where redis.url is set, else in the transport"`
	EnableCaching         bool          `toml:"enable_caching" default:"false" env:"FRAISEQL_ENABLE_CACHING" doc:"skip cacheable actions whose identical request succeeded lately"`
	EnableConcurrent      bool          `toml:"enable_concurrent" default:"true" env:"FRAISEQL_ENABLE_CONCURRENT" doc:"run the actions of one event at the same time; false: in file order"`
	MaxConcurrentActions  int           `toml:"max_concurrent_actions" default:"10" min:"1" max:"1000" env:"FRAISEQL_MAX_CONCURRENT_ACTIONS" doc:"actions of one event that run at the same time"`
	ConcurrentTimeoutMS   int           `toml:"concurrent_timeout_ms" default:"30000" min:"1" max:"3600000" env:"FRAISEQL_CONCURRENT_TIMEOUT_MS" doc:"time for one action attempt, in milliseconds"`
	MaxConcurrency        int           `toml:"max_concurrency" default:"50" min:"1" max:"10000" env:"FRAISEQL_MAX_CONCURRENCY" doc:"events in work at the same time"`
	ChannelCapacity       int           `toml:"channel_capacity" default:"1000" min:"1" max:"1000000" env:"FRAISEQL_CHANNEL_CAPACITY" doc:"events read ahead"`
	BacklogAlertThreshold int           `toml:"backlog_alert_threshold" default:"500" min:"1" max:"1000000000" env:"FRAISEQL_BACKLOG_ALERT_THRESHOLD" doc:"events waiting before an alert is logged"`
	ShutdownTimeout       time.Duration `toml:"shutdown_timeout" default:"25s" min:"0s" max:"1h" env:"FRAISEQL_SHUTDOWN_TIMEOUT" doc:"time to finish what runs after SIGTERM"`
}

// Pipeline is the [pipeline] table.
type Pipeline struct {
	Middleware []string `toml:"middleware" doc:"registered team middleware for every action, outer first"`
}

// Admin is the [admin] table.
type Admin struct {
	Listen   string `toml:"listen" default:"127.0.0.1:7077" envempty:"true" doc:"host:port of the admin address; empty turns it off"`
	TokenEnv string `toml:"token_env" doc:"environment variable that holds the token; needed beyond loopback"`
}

// Log is the [log] table.
type Log struct {
	Level  string `toml:"level" default:"info" enum:"debug,info,warn,error" doc:"least level that is logged"`
	Format string `toml:"format" default:"text" enum:"text,json" doc:"format of the log"`
}

// Observer is one [[observers]] table: which events, and what to do with them.
type Observer struct {
	Name       string                 `toml:"name" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"unique; default: <entity>-<event_type>-<n>, lower case"`
	EventType  event.Type             `toml:"event_type" enum:"INSERT,UPDATE,DELETE,CUSTOM" doc:"which events; absent: all"`
	Entity     string                 `toml:"entity" required:"true" doc:"which entity, exactly as written; * stands for every entity"`
	Condition  string                 `toml:"condition" doc:"JMESPath expression over event, data, before and changes; absent: always"`
	Enabled    bool                   `toml:"enabled" default:"true" doc:"false: the observer is checked and does nothing"`
	Order      string                 `toml:"order" default:"entity" enum:"entity,none" doc:"entity: one delivery at a time per entity and action, in commit order"`
	OnRetry    string                 `toml:"on_retry" default:"overtake" enum:"overtake,hold" doc:"hold: later events of the entity wait for the parked one"`
	Middleware []string               `toml:"middleware" doc:"registered team middleware for the actions of this observer, outer first"`
	OnFailure  string                 `toml:"on_failure" default:"dlq" enum:"dlq,alert,log" doc:"dlq: keep a dead letter; alert: that and an error log line; log: drop after logging"`
	Actions    []Action               `toml:"actions" required:"true" doc:"what to do"`
	Retry      middleware.RetryConfig `toml:"retry" doc:"when to try again"`
}

// Action is one [[observers.actions]] table.
type Action struct {
	Type       string   `toml:"type" required:"true" doc:"what kind of action"`
	Name       string   `toml:"name" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"unique within the observer, part of the action's identity; default: <type>-<n>"`
	Middleware []string `toml:"middleware" doc:"registered team middleware for this action, outer first"`

	// Cacheable is the bool key cacheable of Config, false where the type has none.
	Cacheable bool `toml:"-"`
	// Config points to the struct that is registered for Type, such as *handlers.WebhookConfig. It is nil only where
	// Load returned an error for this action.
	Config any `toml:"-"`
}
