package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/pipeline/postgres"
)

// publishBatch bounds the events, and publishBytes their size, in one INSERT.
const (
	publishBatch = 500
	publishBytes = 8 << 20
)

// publish puts every event of source into the change log, in one transaction, and returns their ids.
func publish(ctx context.Context, db *pgxpool.Pool, source *eventSource) (ids []string, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		// Standard input may pause for as long as it likes: a writer that is open delays no reader of the log.
		if _, err := tx.Exec(ctx, `set local idle_in_transaction_session_timeout = 0`); err != nil {
			return err
		}
		b := batch{tx: tx}
		for {
			e, payload, err := source.next()
			if errors.Is(err, io.EOF) {
				return b.flush(ctx)
			}
			if err != nil {
				return err
			}
			if err := b.add(ctx, e.Entity, message.NewMessage(e.ID, payload)); err != nil {
				return err
			}
			ids = append(ids, e.ID)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("emit: %w", postgres.Diagnose(err))
	}
	return ids, nil
}

// batch collects neighbours of one entity. It uses the log's schema without the publisher around it, which refuses
// entity names that Watermill does not allow as topics.
type batch struct {
	tx     pgx.Tx
	entity string
	msgs   []*message.Message
	bytes  int
}

func (b *batch) add(ctx context.Context, entity string, msg *message.Message) error {
	if len(b.msgs) > 0 && (entity != b.entity || len(b.msgs) == publishBatch || b.bytes > publishBytes) {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.entity, b.msgs, b.bytes = entity, append(b.msgs, msg), b.bytes+len(msg.Payload)
	return nil
}

func (b *batch) flush(ctx context.Context) error {
	query, err := postgres.LogSchema{}.InsertQuery(sql.InsertQueryParams{Topic: b.entity, Msgs: b.msgs})
	if err != nil {
		return usagef("%w", err)
	}
	b.msgs, b.bytes = b.msgs[:0:0], 0
	_, err = b.tx.Exec(ctx, query.Query, query.Args...)
	if wrong, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(wrong.Code, "22") { // data exceptions
		return usagef("the events for %s hold what Postgres cannot store: %s %s; nothing was emitted", b.entity, wrong.Message, wrong.Detail)
	}
	return err
}
