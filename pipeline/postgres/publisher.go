package postgres

import (
	stdsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// NewPublisher returns a Watermill publisher of custom events into the change log; the topic is the entity. What it is
// given decides the transaction: sql.TxFromPgx(tx) publishes inside the caller's pgx transaction, so that the events
// exist if and only if it commits; sql.BeginnerFromPgx(pool) commits each Publish by itself.
//
// A payload that is an event's JSON fills the columns of the log. Any other payload travels as it is, with the message's
// UUID and metadata, and the reader gives back the same message. One Publish is one insert; messages keep their order.
func NewPublisher(db sql.ContextExecutor) (*sql.Publisher, error) {
	return sql.NewPublisher(db, sql.PublisherConfig{SchemaAdapter: LogSchema{}}, nil)
}

// LogSchema is the change log as a watermill-sql schema. It is for publishing: reading has its own driver, because the
// generic one loses late commits.
type LogSchema struct{}

var _ sql.SchemaAdapter = LogSchema{}

var errPublishOnly = errors.New("the change log is read through the window driver of package postgres, not through watermill-sql")

const publish = `insert into core.tb_entity_change_log
    (id, object_type, modification_type, object_id, object_key, object_data, object_data_before, tenant_id, user_id, actor_type,
     schema_version, seq, created_at, extra_metadata, trace_context)
select coalesce(e.id::uuid, gen_random_uuid()), $1, e.type, e.object_id::uuid, e.key, e.data::jsonb, e.before::jsonb, e.tenant::uuid, e.usr, e.actor,
       e.version, e.seq, coalesce(e.at::timestamptz, clock_timestamp()), e.extra::jsonb, e.trace::jsonb
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
              $11::integer[], $12::bigint[], $13::text[], $14::text[], $15::text[]) with ordinality
       as e (id, type, object_id, key, data, before, tenant, usr, actor, version, seq, at, extra, trace, n)
 order by e.n`

// InsertQuery implements sql.SchemaAdapter.
func (LogSchema) InsertQuery(p sql.InsertQueryParams) (sql.Query, error) {
	var c logColumns
	for _, msg := range p.Msgs {
		row, err := rowOf(p.Topic, msg)
		if err != nil {
			return sql.Query{}, fmt.Errorf("publish to %s: message %s: %w", p.Topic, msg.UUID, err)
		}
		c.add(row)
	}
	return sql.Query{Query: publish, Args: append([]any{p.Topic}, c.args()...)}, nil
}

// SelectQuery implements sql.SchemaAdapter; it always fails.
func (LogSchema) SelectQuery(sql.SelectQueryParams) (sql.Query, error) {
	return sql.Query{}, errPublishOnly
}

// UnmarshalMessage implements sql.SchemaAdapter; it always fails.
func (LogSchema) UnmarshalMessage(sql.UnmarshalMessageParams) (sql.Row, error) {
	return sql.Row{}, errPublishOnly
}

// SchemaInitializingQueries implements sql.SchemaAdapter: there are none, [Migrate] makes the tables.
func (LogSchema) SchemaInitializingQueries(sql.SchemaInitializingQueriesParams) ([]sql.Query, error) {
	return nil, nil
}

// SubscribeIsolationLevel implements sql.SchemaAdapter.
func (LogSchema) SubscribeIsolationLevel() stdsql.IsolationLevel { return stdsql.LevelReadCommitted }

// carried is what the log keeps of a Watermill message in extra_metadata.
type carried struct {
	Watermill *carriedMessage `json:"watermill,omitempty"`
	Source    string          `json:"source,omitempty"`
}

type carriedMessage struct {
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Payload  *[]byte           `json:"payload,omitempty"` // absent when the columns hold the event
}

// restoreMessage returns the message that a Watermill publisher put into the log as it was. It reports false for a row
// that is an event: then metadata, if any, is still in [restoreMetadata].
func restoreMessage(extra []byte) (*message.Message, bool) {
	m := decodeCarried(extra)
	if m == nil || m.Payload == nil {
		return nil, false
	}
	msg := message.NewMessage(m.UUID, *m.Payload)
	for k, v := range m.Metadata {
		msg.Metadata.Set(k, v)
	}
	return msg, true
}

// restoreMetadata returns the metadata of the message that brought an event into the log, nil when there was none.
func restoreMetadata(extra []byte) message.Metadata {
	if m := decodeCarried(extra); m != nil {
		return m.Metadata
	}
	return nil
}

func decodeCarried(extra []byte) *carriedMessage {
	if len(extra) == 0 {
		return nil
	}
	var c carried
	if err := json.Unmarshal(extra, &c); err != nil {
		return nil // another producer's metadata that happens to look different
	}
	return c.Watermill
}
