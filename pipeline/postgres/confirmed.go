package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// confirmedSuffix ends the name of the second checkpoint row of a bridge.
const confirmedSuffix = ":confirmed"

// ErrNoCheckpoint says that a checkpoint row is not there: nothing was read yet, or somebody deleted it.
var ErrNoCheckpoint = errors.New("there is no such checkpoint")

// StreamMark says which stream was filled up to where. A stream that was created again is another one.
type StreamMark struct {
	Created  time.Time
	Sequence uint64
}

// Lost reports whether the stream that is there now lacks what m says was put into it.
func (m StreamMark) Lost(now StreamMark) bool {
	return !m.created().Equal(now.created()) || now.Sequence < m.Sequence
}

// created is as exact as Postgres keeps it.
func (m StreamMark) created() time.Time { return m.Created.Truncate(time.Microsecond) }

// sequence is how Postgres keeps it.
func (m StreamMark) sequence() int64 { return int64(min(m.Sequence, math.MaxInt64)) }

// Position is a stored reading position: everything before it was read, and settled where it is not pending.
type Position struct {
	from    string
	to      *string
	upTo    int64
	pending []int64
}

// Beginning is the position before everything.
func Beginning() Position { return Position{from: beginning, pending: []int64{}} }

// Confirmed keeps the second checkpoint of a bridge: the position up to which the consumers have settled every event. Each
// write is fenced by the lease of the bridge.
type Confirmed struct {
	DB    DB
	Lease *Lease
	Name  string // transport_name: the name of the first
}

func (c *Confirmed) row() string { return c.Name + confirmedSuffix }

// Published returns the position up to which the bridge has published.
func (c *Confirmed) Published(ctx context.Context) (p Position, err error) {
	err = c.DB.QueryRow(ctx, `select snapshot_from::text, snapshot_to::text, read_up_to, pending
		from public.tb_observer_checkpoint where transport_name = $1`, c.Name).Scan(&p.from, &p.to, &p.upTo, &p.pending)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoCheckpoint
	}
	return p, wrap("read checkpoint", err)
}

// Mark returns what is stored of the stream, false when nothing is.
func (c *Confirmed) Mark(ctx context.Context) (m StreamMark, found bool, err error) {
	var created *time.Time
	var sequence *int64
	err = c.DB.QueryRow(ctx, `select stream_created, stream_sequence from public.tb_observer_checkpoint where transport_name = $1`, c.row()).Scan(&created, &sequence)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && (created == nil || sequence == nil) {
		return m, false, nil
	}
	if err != nil {
		return m, false, wrap("read confirmed checkpoint", err)
	}
	return StreamMark{*created, uint64(max(*sequence, 0))}, true, nil
}

const confirm = fence + `insert into public.tb_observer_checkpoint as c
	(transport_name, snapshot_from, snapshot_to, read_up_to, pending, starts, system_identifier, database_oid, timeline, stream_created, stream_sequence)
	select $3, $4::pg_snapshot, $5::pg_snapshot, $6, $7::bigint[], array_fill(0, array[cardinality($7::bigint[])]), h.system, h.database, h.timeline, $8, $9
	  from lease, ` + here + `
	on conflict (transport_name) do update set
		snapshot_from = excluded.snapshot_from, snapshot_to = excluded.snapshot_to, read_up_to = excluded.read_up_to, pending = excluded.pending,
		starts = excluded.starts, system_identifier = excluded.system_identifier, database_oid = excluded.database_oid, timeline = excluded.timeline, stream_created = excluded.stream_created,
		stream_sequence = excluded.stream_sequence, updated_at = clock_timestamp()`

// Confirm moves the confirmed position to p.
func (c *Confirmed) Confirm(ctx context.Context, p Position, m StreamMark) error {
	return c.write(ctx, "store confirmed checkpoint", confirm, c.row(), p.from, p.to, p.upTo, p.pending, m.created(), m.sequence())
}

const noteStream = fence + `update public.tb_observer_checkpoint c set stream_created = $4, stream_sequence = $5, updated_at = clock_timestamp()
	from lease where c.transport_name = $3`

// Note stores how far the stream is filled and leaves the position alone.
func (c *Confirmed) Note(ctx context.Context, m StreamMark) error {
	return c.write(ctx, "store stream position", noteStream, c.row(), m.created(), m.sequence())
}

const refill = fence + `, noted as (
    update public.tb_observer_checkpoint c set stream_created = $5, stream_sequence = $6, updated_at = clock_timestamp() from lease where c.transport_name = $4
    returning c.*
)
update public.tb_observer_checkpoint c set
    snapshot_from = n.snapshot_from, snapshot_to = n.snapshot_to, read_up_to = n.read_up_to, pending = n.pending, starts = n.starts, done = '{}', alone = null,
    epoch = greatest(c.epoch + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint), updated_at = clock_timestamp()
  from noted n where c.transport_name = $3 and pg_snapshot_xmax(c.snapshot_from) >= pg_snapshot_xmax(n.snapshot_from)`

// Refill takes the published position back to the confirmed one: the stream that is there now, m, lost what lies between. The
// reader of this position notices and follows. A position that an operator has moved further back stays: the error is ErrNoCheckpoint.
func (c *Confirmed) Refill(ctx context.Context, m StreamMark) error {
	return c.write(ctx, "refill stream", refill, c.Name, c.row(), m.created(), m.sequence())
}

// write executes a fenced statement that changes one row.
func (c *Confirmed) write(ctx context.Context, what, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	tag, err := c.DB.Exec(ctx, statement, append([]any{c.Lease.name(), c.Lease.Generation()}, args...)...)
	switch {
	case err != nil:
		return wrap(what, err)
	case tag.RowsAffected() == 0 && !c.Lease.Held():
		return fmt.Errorf("%s: %w", what, ErrDeposed)
	case tag.RowsAffected() == 0:
		return fmt.Errorf("%s: %w", what, ErrNoCheckpoint)
	}
	return nil
}
