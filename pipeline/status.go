package pipeline

import (
	"time"

	"github.com/fraiseql/observer/internal/admin"
)

// Status is what GET /status of the admin address answers and observer status prints. What a topology does not have is left
// out, and so is what only the leader measures while this process stands by. The figures are those of /metrics.
type Status struct {
	Version       string         `json:"version"`
	Transport     string         `json:"transport"`
	Ready         bool           `json:"ready"`
	Status        string         `json:"status"` // as /readyz tells it
	Reasons       []admin.Reason `json:"reasons,omitempty"`
	StartedAt     time.Time      `json:"started_at"`
	UptimeSeconds float64        `json:"uptime_seconds"`
	Roles         []Role         `json:"roles"`

	MeasuredAt  *time.Time         `json:"measured_at,omitempty"` // of source, consumer, parked and dead_letters
	Source      *SourceStatus      `json:"source,omitempty"`
	Consumer    *ConsumerStatus    `json:"consumer,omitempty"`
	Bridge      *BridgeStatus      `json:"bridge,omitempty"`
	Parked      *ParkedStatus      `json:"parked,omitempty"`
	DeadLetters *DeadLettersStatus `json:"dead_letters,omitempty"`
	Delivered   *int64             `json:"delivered,omitempty"` // since the start
	Observers   []ObserverStatus   `json:"observers,omitempty"`
	Endpoints   []EndpointStatus   `json:"endpoints,omitempty"`
	Dedup       *DedupStatus       `json:"dedup,omitempty"`
	Cache       *CacheStatus       `json:"cache,omitempty"`
}

// Role is one of the things that a process does.
type Role struct {
	Role  string `json:"role"`  // listener: observers over the change log; bridge; worker: observers over a stream
	Name  string `json:"name"`  // listener_name, transport_name or consumer_name
	State string `json:"state"` // starting; leader or standby; a worker is working
}

// SourceStatus is what waits for the observers.
type SourceStatus struct {
	From             string  `json:"from"` // change_log or stream
	Backlog          int64   `json:"backlog"`
	OldestAgeSeconds float64 `json:"oldest_age_seconds"`
}

// ConsumerStatus is how far the workers of a consumer are, all together.
type ConsumerStatus struct {
	Stream     string `json:"stream"`
	Consumer   string `json:"consumer"`
	Pending    uint64 `json:"pending"`     // not handed out yet
	AckPending int    `json:"ack_pending"` // handed out and not settled

	Partitions *PartitionsStatus `json:"partitions,omitempty"`
}

// PartitionsStatus says which worker has which partitions.
type PartitionsStatus struct {
	Owned  []int            `json:"owned"`  // by this process
	Owners map[string][]int `json:"owners"` // by all workers of the consumer
}

// BridgeStatus is how far a bridge is. Sequences are of the stream, which other bridges may fill as well.
type BridgeStatus struct {
	TransportName     string        `json:"transport_name"`
	State             string        `json:"state"`
	MeasuredAt        *time.Time    `json:"measured_at,omitempty"`
	Stream            string        `json:"stream"`
	PublishedSequence *uint64       `json:"published_sequence,omitempty"` // up to which the stream is filled
	ConfirmedSequence *uint64       `json:"confirmed_sequence,omitempty"` // up to which everything has left it again
	ChangeLog         *SourceStatus `json:"change_log,omitempty"`         // what is to be published
}

// ParkedStatus is what waits for another attempt.
type ParkedStatus struct {
	N                int64   `json:"n"`
	OldestAgeSeconds float64 `json:"oldest_age_seconds"` // since the oldest was first parked
}

// DeadLettersStatus is what waits for a person.
type DeadLettersStatus struct {
	N                int64    `json:"n"`
	OldestAgeSeconds *float64 `json:"oldest_age_seconds,omitempty"` // read once a minute
}

// ObserverStatus is a declared observer. The counts are those of this process since its start.
type ObserverStatus struct {
	Name            string `json:"name"`
	Entity          string `json:"entity"`
	EventType       string `json:"event_type,omitempty"` // left out: any
	Enabled         bool   `json:"enabled"`
	Matched         *int64 `json:"matched,omitempty"`
	NotMatched      *int64 `json:"not_matched,omitempty"`
	ConditionErrors *int64 `json:"condition_errors,omitempty"`
}

// EndpointStatus is a server that actions reach.
type EndpointStatus struct {
	Name    string `json:"name"`
	Breaker string `json:"breaker"` // closed; open while it is taken to be down; half-open until an attempt tells
}

// DedupStatus counts since the start.
type DedupStatus struct {
	Checks     int64   `json:"checks"`
	Duplicates int64   `json:"duplicates"`
	Errors     int64   `json:"errors"`
	HitRate    float64 `json:"hit_rate"`
}

// CacheStatus counts since the start.
type CacheStatus struct {
	Hits    int64   `json:"hits"`
	Misses  int64   `json:"misses"`
	HitRate float64 `json:"hit_rate"`
}
