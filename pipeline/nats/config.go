package nats

import "github.com/fraiseql/observer/internal/natsconn"

// Config is the [transport.nats] table.
type Config struct {
	natsconn.Config

	StreamName    string    `toml:"stream_name" default:"fraiseql_events" pattern:"^[A-Za-z0-9_-]{1,255}$" env:"FRAISEQL_NATS_STREAM_NAME" doc:"stream that holds the events"`
	SubjectPrefix string    `toml:"subject_prefix" default:"fraiseql.mutation" env:"FRAISEQL_NATS_SUBJECT_PREFIX" doc:"subjects are <subject_prefix>.<entity>.<EVENT_TYPE>, with partitions followed by .<partitions>.<partition>"`
	ConsumerName  string    `toml:"consumer_name" default:"fraiseql_observer_worker" pattern:"^[A-Za-z0-9_-]{1,255}$" env:"FRAISEQL_NATS_CONSUMER_NAME" doc:"durable consumer; workers with one name share the work"`
	Embedded      bool      `toml:"embedded" default:"false" doc:"run a JetStream server inside this process"`
	StoreDir      string    `toml:"store_dir" default:"./observer-data" doc:"where the embedded server keeps its data"`
	JetStream     JetStream `toml:"jetstream" doc:"the stream and its consumer"`
}

// JetStream is the [transport.nats.jetstream] table.
type JetStream struct {
	DedupWindowMinutes int      `toml:"dedup_window_minutes" default:"5" min:"1" max:"1440" env:"FRAISEQL_NATS_DEDUP_WINDOW_MINUTES" doc:"how long the stream recognises an event published twice, in minutes"`
	Retention          string   `toml:"retention" default:"workqueue" enum:"workqueue,interest" doc:"workqueue: acked events leave the stream; interest: every group gets each event"`
	Groups             []string `toml:"groups" doc:"with interest: the consumer names that must exist before anything is published"`
	MaxAgeDays         int      `toml:"max_age_days" default:"0" min:"0" max:"36500" env:"FRAISEQL_NATS_MAX_AGE_DAYS" doc:"days before an event expires, processed or not; 0: never"`
	MaxMsgs            int64    `toml:"max_msgs" default:"10000000" min:"1" max:"1000000000000" env:"FRAISEQL_NATS_MAX_MSGS" doc:"events beyond which the stream refuses and the bridge waits"`
	MaxBytes           int64    `toml:"max_bytes" default:"10737418240" min:"1048576" max:"1000000000000000" env:"FRAISEQL_NATS_MAX_BYTES" doc:"bytes beyond which the stream refuses and the bridge waits"`
	AckWaitSecs        int      `toml:"ack_wait_secs" default:"30" min:"1" max:"86400" env:"FRAISEQL_NATS_ACK_WAIT_SECS" doc:"seconds before an unacknowledged event comes again"`
	MaxDeliver         int      `toml:"max_deliver" default:"3" min:"1" max:"1000" env:"FRAISEQL_NATS_MAX_DELIVER" doc:"starts without an outcome before an event becomes a dead letter, on every transport"`
	Partitions         int      `toml:"partitions" default:"0" min:"0" max:"256" env:"FRAISEQL_NATS_PARTITIONS" doc:"parts that the events are divided into by entity, each of which one worker at a time has, so that order per entity holds across workers; 0: workers share all events; the same for all bridges and workers"`
	Replicas           int      `toml:"replicas" default:"1" min:"1" max:"5" doc:"copies of the stream in the cluster"`
}
