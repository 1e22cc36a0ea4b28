package config

// Bridge is the [transport.bridge] table.
type Bridge struct {
	TransportName    string `toml:"transport_name" default:"pg_to_nats" env:"FRAISEQL_BRIDGE_TRANSPORT_NAME" doc:"names the checkpoint row; unique per database"`
	BatchSize        int    `toml:"batch_size" default:"100" min:"1" max:"10000" env:"FRAISEQL_BRIDGE_BATCH_SIZE" doc:"rows a read"`
	PollIntervalSecs int    `toml:"poll_interval_secs" default:"1" min:"1" max:"3600" env:"FRAISEQL_BRIDGE_POLL_INTERVAL_SECS" doc:"seconds between reads when nothing wakes the bridge"`
	NotifyChannel    string `toml:"notify_channel" default:"fraiseql_events" env:"FRAISEQL_BRIDGE_NOTIFY_CHANNEL" doc:"channel of the wake-up notifications"`
}
