package postgres

import "github.com/fraiseql/observer/internal/secret"

// Config is the [transport.postgres] table of the configuration file.
//
// The struct tags are read by package config: toml names the key, default gives its default, min, max and enum say what
// is allowed, doc is the description in the JSON Schema.
type Config struct {
	URL              secret.String `toml:"url" env:"DATABASE_URL" doc:"connection URL of the database; also DATABASE_URL"`
	ListenerName     string        `toml:"listener_name" default:"observer" doc:"names the checkpoint row; of several processes with one name one leads, the others stand by"`
	StartFrom        string        `toml:"start_from" default:"now" doc:"where a first start begins: now, beginning, or an RFC 3339 time"`
	Wake             string        `toml:"wake" default:"notify" enum:"notify,poll" doc:"how a sleeping reader wakes; poll behind a transaction-pooling proxy"`
	BatchSize        int           `toml:"batch_size" default:"500" min:"1" max:"10000" doc:"rows a read"`
	PollIntervalSecs int           `toml:"poll_interval_secs" default:"1" min:"1" max:"3600" doc:"seconds between reads when nothing wakes the reader"`
	NotifyChannel    string        `toml:"notify_channel" default:"fraiseql_events" doc:"channel of the wake-up notifications"`
	AutoMigrate      bool          `toml:"auto_migrate" default:"true" doc:"create missing database objects at start"`
	RetentionDays    int           `toml:"retention_days" default:"7" min:"0" max:"36500" doc:"delete change-log rows older than this that every checkpoint has passed; 0 keeps all"`

	// WakeForced is set when the file or the environment sets wake = "notify": then the database is notified even
	// where max_prepared_transactions > 0 makes NOTIFY break PREPARE TRANSACTION.
	WakeForced bool `toml:"-"`
}
