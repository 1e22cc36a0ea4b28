package postgres

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestPublishWithinTheCallersTransaction(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	for _, commit := range []bool{false, true} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		p, err := NewPublisher(sql.TxFromPgx(tx))
		require.NoError(t, err)
		require.NoError(t, p.Publish("Order", message.NewMessage(uuid.NewString(), []byte(`{"entity_type":"Order","entity_id":"7","data":{"a":1}}`))))
		require.NoError(t, p.Close())
		if commit {
			require.NoError(t, tx.Commit(t.Context()))
		} else {
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
	require.Equal(t, []string{`Order CUSTOM 7 - -> {"a": 1}`}, logged(t, pool))
}

func TestAnEventsJSONFillsTheColumns(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	p, err := NewPublisher(sql.BeginnerFromPgx(pool))
	require.NoError(t, err)
	const id, key, tenant = "0d9a2b4e-6f14-4b62-9b39-1d3f3a1f9c11", "1d9a2b4e-6f14-4b62-9b39-1d3f3a1f9c12", "2d9a2b4e-6f14-4b62-9b39-1d3f3a1f9c13"
	full := `{"id":"` + id + `","event_type":"UPDATE","entity_type":"Order","entity_id":"` + key + `","data":{"n":12345678901234567890.50},"before":{"n":1}, "changes":{"n":{"new":12345678901234567890.50,"old":1}},
		"tenant_id":"` + tenant + `","user_id":"ada","timestamp":"2026-01-02T03:04:05.678901Z","seq":9,"source":"shop","actor_type":"user","schema_version":3}`
	withMetadata := message.NewMessage("not a uuid", []byte(full))
	withMetadata.Metadata.Set("correlation_id", "c")
	plainID := uuid.NewString()
	require.NoError(t, p.Publish("Order",
		withMetadata,
		message.NewMessage(plainID, []byte(`{"entity_type":"Order","data":null}`)),
		message.NewMessage("x", []byte(`{"entity_type":"Order","event_type":"DELETE","data":{"gone":true}}`)),
	))
	got := func(where string) string {
		return queryOne[string](t, pool, `select concat_ws('|', id, modification_type, object_id, object_key, object_data, object_data_before, tenant_id, user_id, actor_type, schema_version, seq,
			to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), extra_metadata) from core.tb_entity_change_log where `+where)
	}
	require.Equal(t, id+`|UPDATE|`+key+`|`+key+`|{"n": 12345678901234567890.50}|{"n": 1}|`+tenant+`|ada|user|3|9|2026-01-02 03:04:05.678901|{"source": "shop", "watermill": {"uuid": "not a uuid", "metadata": {"correlation_id": "c"}}}`,
		got(`pk_entity_change_log = 1`))
	require.Contains(t, got(`pk_entity_change_log = 2`), plainID+"|CUSTOM|null|")
	require.Contains(t, got(`pk_entity_change_log = 3`), `|DELETE|{"gone": true}|`)
	require.True(t, queryOne[bool](t, pool, `select object_data is null from core.tb_entity_change_log where pk_entity_change_log = 3`))

	extra := queryOne[[]byte](t, pool, `select extra_metadata from core.tb_entity_change_log where pk_entity_change_log = 1`)
	_, opaque := restoreMessage(extra)
	require.False(t, opaque)
	require.Equal(t, message.Metadata{"correlation_id": "c"}, restoreMetadata(extra))
}

func TestAnyOtherMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	p, err := NewPublisher(sql.BeginnerFromPgx(pool))
	require.NoError(t, err)
	var sent message.Messages
	for _, payload := range [][]byte{nil, []byte("x"), {0, 0xff, '\\', '"'}, []byte(`{"entity_type":"","data":1}`)} {
		for _, id := range []string{uuid.NewString(), "any text", ""} {
			msg := message.NewMessage(id, payload)
			msg.Metadata.Set("ключ", `v"\`)
			sent = append(sent, msg)
		}
	}
	require.NoError(t, p.Publish("topic", sent...))
	rows, err := pool.Query(t.Context(), `select extra_metadata from core.tb_entity_change_log where object_type = 'topic' order by pk_entity_change_log`)
	require.NoError(t, err)
	stored, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	require.Len(t, stored, len(sent))
	for i, extra := range stored {
		got, ok := restoreMessage(extra)
		require.True(t, ok)
		require.True(t, sent[i].Equals(got), "message %d: %+v is not %+v", i, got, sent[i])
	}
	require.Equal(t, sent[0].UUID, queryOne[string](t, pool, `select id::text from core.tb_entity_change_log where pk_entity_change_log = 1`))
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	p, err := NewPublisher(sql.BeginnerFromPgx(migratedDB(t)))
	require.NoError(t, err)
	for payload, want := range map[string]string{
		`{"entity_type":"Invoice","data":{}}`:                                                                             `entity_type is "Invoice": the topic must be the same`,
		`{"id":"7","entity_type":"Order","data":{}}`:                                                                      `id "7" is no uuid`,
		`{"tenant_id":"acme","entity_type":"Order","data":{}}`:                                                            `tenant_id "acme" is no uuid`,
		`{"entity_type":"Order","event_type":"UPDATE","data":{"a":2},"changes":{"a":{"old":1,"new":2}}}`:                  `cannot hold the event's changes`,
		`{"entity_type":"Order","event_type":"UPDATE","data":{"a":2},"before":{"a":1},"changes":{"b":{"old":1,"new":2}}}`: `cannot hold the event's changes`,
	} {
		require.ErrorContains(t, p.Publish("Order", message.NewMessage("u", []byte(payload))), want)
	}
}

func TestRestoreMessageLeavesOthersMetadataAlone(t *testing.T) {
	t.Parallel()
	for _, extra := range []string{``, `null`, `{}`, `[]`, `{"watermill":1}`, `{"watermill":{"uuid":"u"}}`, `{"capture_error":"x"}`} {
		_, ok := restoreMessage([]byte(extra))
		require.False(t, ok, extra)
	}
}
