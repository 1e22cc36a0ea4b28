package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errMoved says that the checkpoint row is not the one that this session loaded: an operator moved or deleted it.
var errMoved = errors.New("the checkpoint was moved")

// checkpoint is a stored position with what was in flight.
type checkpoint struct {
	image
	epoch   int64
	in      identity // where it was stored
	foreign bool     // that is another database than
	here    identity // the connected one
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func loadCheckpoint(ctx context.Context, db queryer, name string) (checkpoint, error) {
	var c checkpoint
	var to *string
	err := db.QueryRow(ctx, `select c.snapshot_from::text, c.snapshot_to::text, c.read_up_to, c.pending, c.starts, c.done, c.alone, c.epoch,
		not `+ours+`, `+storedColumns+`, `+hereColumns+` from public.tb_observer_checkpoint c, `+here+` where c.transport_name = $1`, name).
		Scan(slices.Concat([]any{&c.from, &to, &c.upTo, &c.pending, &c.starts, &c.done, &c.alone, &c.epoch, &c.foreign}, c.in.targets(), c.here.targets())...)
	if to != nil {
		c.to = snapshot(*to)
	}
	return c, err
}

// createCheckpoint creates the row of a reader that never ran, unless it is there. From is now, beginning or an RFC 3339
// time.
func createCheckpoint(ctx context.Context, db execer, name, from string) error {
	start := `pg_current_snapshot(), null::pg_snapshot, 0`
	args := []any{name}
	switch from {
	case "now", "":
	case "beginning":
		start = `'` + beginning + `'::pg_snapshot, null::pg_snapshot, 0`
	default:
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			return fmt.Errorf("%w %q is neither now, beginning nor an RFC 3339 time such as 2026-01-02T15:04:05Z", errStartFrom, from)
		}
		// What is committed before this moment is read from the first row of that time on; the rest as it commits.
		start = `'` + beginning + `'::pg_snapshot, pg_current_snapshot(),
			coalesce((select min(pk_entity_change_log) - 1 from core.tb_entity_change_log where created_at >= $2::timestamptz), 9223372036854775807)`
		args = append(args, at)
	}
	_, err := db.Exec(ctx, `insert into public.tb_observer_checkpoint (transport_name, snapshot_from, snapshot_to, read_up_to, epoch, system_identifier, database_oid, timeline)
		select $1, `+start+`, (extract(epoch from clock_timestamp()) * 1000000)::bigint, h.system, h.database, h.timeline from `+here+`
		on conflict (transport_name) do nothing`, args...)
	if err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	return nil
}

// fence starts every statement that writes for a listener: lease has a row while lease $1 has generation $2, or when there
// is no fence ($2 = 0). In a copy of the database, which has a copy of the lease as well, checkpoint $1 tells. The lock makes
// a takeover wait until the statement has committed, but no renewal, which leaves the generation alone; the commit is
// durable whatever the session's default.
const fence = `with held as materialized (
    select set_config('synchronous_commit', 'on', true) from core.tb_observer_lease where name = $1 and generation = $2
       and not exists (select from public.tb_observer_checkpoint c, ` + here + ` where c.transport_name = $1 and not ` + ours + `) for key share
), lease as materialized (
    select * from held union all select set_config('synchronous_commit', 'on', true) where $2 = 0::bigint
)
`

const storeSQL = fence + `update public.tb_observer_checkpoint c
	set snapshot_from = $5::pg_snapshot, snapshot_to = $6::pg_snapshot, read_up_to = $7, pending = $8::bigint[], starts = $9::integer[],
	    alone = $10, done = $11::text::jsonb, updated_at = clock_timestamp()
	from lease where c.transport_name = $3 and c.epoch = $4`

// store writes an image over the row of this epoch, durably. It is refused when another process took over or when the row
// was moved.
func (r *Reader) store(ctx context.Context, db execer, img image, epoch int64) error {
	var to *string
	if img.to != "" {
		text := string(img.to)
		to = &text
	}
	done := []byte("{}")
	if len(img.done) > 0 {
		done, _ = json.Marshal(img.done) // lists of names always marshal
	}
	ctx, answered := r.asking(ctx, &r.health.writing)
	defer answered()
	tag, err := db.Exec(ctx, storeSQL, r.lease.name(), r.lease.Generation(), r.cfg.Name, epoch, string(img.from), to, img.upTo, img.pending, img.starts, img.alone, string(done))
	switch {
	case err != nil:
		return fmt.Errorf("store checkpoint: %w", err)
	case tag.RowsAffected() == 0:
		return r.refused(ctx, db)
	}
	return nil
}

// refused finds out why a fenced write changed nothing.
func (r *Reader) refused(ctx context.Context, db execer) error {
	tag, err := db.Exec(ctx, `select from core.tb_observer_lease where name = $1 and generation = $2`, r.lease.name(), r.lease.Generation())
	switch {
	case err != nil:
		return fmt.Errorf("store checkpoint: %w", err)
	case tag.RowsAffected() == 0:
		return fmt.Errorf("store checkpoint: %w", ErrDeposed)
	}
	return errMoved
}

// load returns the stored checkpoint, and creates the one that is missing: from start_from when there never was one, else
// from the beginning, since deleting the row asks for the whole log again.
func (s *session) load(ctx context.Context) (checkpoint, error) {
	now, err := primary(ctx, s.read)
	if err == nil {
		err = s.r.lease.pin.accept(now)
	}
	if err != nil {
		return checkpoint{}, err
	}
	name := s.r.cfg.Name
	c, err := loadCheckpoint(ctx, s.read, name)
	if errors.Is(err, pgx.ErrNoRows) {
		from := "beginning"
		if s.r.lease.First() && !s.r.attached() {
			from = s.r.cfg.Config.StartFrom
		}
		if err := createCheckpoint(ctx, s.read, name, from); err != nil {
			return checkpoint{}, err
		}
		c, err = loadCheckpoint(ctx, s.read, name)
	}
	switch {
	case err != nil:
		return checkpoint{}, fmt.Errorf("load checkpoint: %w", err)
	case c.foreign:
		return checkpoint{}, &foreignError{checkpoint: name, of: name, stored: c.in, here: c.here}
	case len(c.starts) != len(c.pending):
		return checkpoint{}, fmt.Errorf("load checkpoint: pending and starts differ in length: run: observer checkpoint set %s --to TIMESTAMP", name)
	}
	if c.in != c.here {
		err = stamp(ctx, s.read, name)
	}
	return c, errors.Join(err, s.r.lease.pin.accept(c.here)) // behind a proxy it may have been asked of another server
}
