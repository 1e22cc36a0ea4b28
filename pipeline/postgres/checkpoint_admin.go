package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Checkpoint is a stored reading position as an operator sees it.
type Checkpoint struct {
	Name      string    `json:"name"`
	ReadUpTo  int64     `json:"read_up_to"` // row of the window under way
	Pending   int       `json:"pending"`    // read and not settled
	Backlog   int64     `json:"backlog"`    // rows not read yet
	UpdatedAt time.Time `json:"updated_at"`
	// Foreign says that the position was stored in another database, of which this one is a restored dump or a copy: set it
	// again, or remove it. Origin says what that other one is.
	Foreign bool   `json:"foreign"`
	Origin  string `json:"origin,omitempty"`
}

// Repair is the command that makes a foreign position one of this database.
func (c Checkpoint) Repair() string { return repair(c.Name) }

// unreadRow holds for a row l of the log that position c has not read.
const unreadRow = `not pg_visible_in_snapshot(l.tx_id, c.snapshot_from)
	and (c.snapshot_to is null or not pg_visible_in_snapshot(l.tx_id, c.snapshot_to) or l.pk_entity_change_log > c.read_up_to)`

// ListCheckpoints returns every reading position, by name.
func ListCheckpoints(ctx context.Context, db DB) ([]Checkpoint, error) {
	rows, err := db.Query(ctx, `select c.transport_name, c.read_up_to, cardinality(c.pending), c.updated_at, not `+ours+`, `+storedColumns+`, `+hereColumns+`,
		case when `+ours+` then (
			select count(*) from core.tb_entity_change_log l
			 where l.tx_id >= pg_snapshot_xmin(c.snapshot_from) and `+unreadRow+`
		) else 0 end
		from public.tb_observer_checkpoint c, `+here+` order by 1`)
	if err != nil {
		return nil, wrap("list checkpoints", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Checkpoint, err error) {
		var stored, now identity
		err = row.Scan(slices.Concat([]any{&c.Name, &c.ReadUpTo, &c.Pending, &c.UpdatedAt, &c.Foreign}, stored.targets(), now.targets(), []any{&c.Backlog})...)
		if c.Foreign {
			c.Origin = origin(stored, now)
		}
		return c, err
	})
	return list, wrap("list checkpoints", err)
}

// SetCheckpoint moves the reading position of name, or creates it, to "now", "beginning" or an RFC 3339 time (the first
// row made then or later). What was read and not settled is forgotten. A running reader notices and follows.
//
// In a copy of the database it makes name one of this database, so that its observer runs, and delivers what is parked as
// well. After a restore from a dump into another cluster the rows of the log carry transaction ids of the old one: they
// first become long committed ones, in the same transaction.
func SetCheckpoint(ctx context.Context, db DB, name, to string) error {
	move, args, err := movement(to)
	if err != nil {
		return err
	}
	return wrap("set checkpoint "+name, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := adopt(ctx, tx, name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, move, append([]any{name}, args...)...)
		return err
	}))
}

const setPosition = `insert into public.tb_observer_checkpoint as c (transport_name, snapshot_from, snapshot_to, read_up_to, epoch, system_identifier, database_oid, timeline)
	select $1, p.since, p.until, p.up_to, (extract(epoch from clock_timestamp()) * 1000000)::bigint, h.system, h.database, h.timeline from ` + here + `, (%s) p (since, until, up_to)
	on conflict (transport_name) do update set
		snapshot_from = excluded.snapshot_from, snapshot_to = excluded.snapshot_to, read_up_to = excluded.read_up_to,
		pending = '{}', starts = '{}', alone = null, epoch = greatest(excluded.epoch, c.epoch + 1),
		system_identifier = excluded.system_identifier, database_oid = excluded.database_oid, timeline = excluded.timeline, updated_at = clock_timestamp()`

// movement gives the statement that stores a position: everything up to snapshot_from is read, and of what lies between
// snapshot_from and snapshot_to the rows up to read_up_to.
func movement(to string) (statement string, args []any, err error) {
	switch to {
	case "now":
		return fmt.Sprintf(setPosition, `select pg_current_snapshot(), null::pg_snapshot, 0::bigint`), nil, nil
	case "beginning":
		return fmt.Sprintf(setPosition, `select '3:3:'::pg_snapshot, null::pg_snapshot, 0::bigint`), nil, nil
	}
	at, err := time.Parse(time.RFC3339, to)
	if err != nil {
		return "", nil, fmt.Errorf("set checkpoint: %q is no position: write now, beginning or a time such as 2026-01-31T12:00:00Z", to)
	}
	if at.After(time.Now()) {
		return "", nil, fmt.Errorf("set checkpoint: %s is yet to come: write now for what happens from now on", to)
	}
	return fmt.Sprintf(setPosition, `
		select case when first.pk is null then pg_current_snapshot() else '3:3:'::pg_snapshot end,
		       case when first.pk is null then null else pg_current_snapshot() end,
		       coalesce(first.pk - 1, 0)
		  from (select min(pk_entity_change_log) as pk from core.tb_entity_change_log where created_at >= $2::timestamptz) first`), []any{at}, nil
}

// adopt makes position name of a copy one of this database: it is about to be stored or deleted here. Positions of the
// original that it leaves behind lose their system identifier: they still are not of this database, and no longer say that
// what else is here is not either. What a bridge has confirmed of another stream goes.
func adopt(ctx context.Context, tx pgx.Tx, name string) error {
	var dumped bool
	err := tx.QueryRow(ctx, `select exists (select from public.tb_observer_checkpoint c, `+here+` where c.system_identifier not in ('', h.system))`).Scan(&dumped)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, leaveBehind); err != nil {
		return err
	}
	if err := adoptForeignRows(ctx, tx, name, dumped); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `select core.fn_observer_adopt_captures()`); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `delete from public.tb_observer_checkpoint where transport_name = $1 || '`+confirmedSuffix+`' and system_identifier = ''`, name)
	return err
}

// leaveBehind includes what an earlier version stored in this cluster, where another position shows that it was not in this
// database.
const leaveBehind = `update public.tb_observer_checkpoint c set system_identifier = '' from ` + here + `
	where c.system_identifier <> '' and (not ` + ours + ` or c.database_oid is null
	      and exists (select from public.tb_observer_checkpoint x where x.system_identifier = h.system and x.database_oid <> h.database))`

// adoptForeignRows makes rows that came with a dump readable here: their transaction ids would hide them, or deliver
// them a second time once this cluster's ids get there. It runs once for all positions of the old cluster. Ids of this
// cluster hold in each of its databases.
//
// A row whose id is that of the transaction that wrote it here is right as it is. The others came with the dump or were
// written here after a savepoint, which cannot be told apart: they count as read by the positions of this cluster. So it is
// refused while one of these, other than name, has such rows to read, and writers wait meanwhile.
func adoptForeignRows(ctx context.Context, tx pgx.Tx, name string, dumped bool) error {
	foreign := `tx_id >= pg_snapshot_xmax(pg_current_snapshot())` // ids that this cluster has not handed out yet
	if dumped {
		foreign = `tx_id > '3'::xid8 and (xmin <> tx_id::xid or ` + foreign + `)`
		if err := refuseUnread(ctx, tx, name); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `update core.tb_entity_change_log set tx_id = '3' where `+foreign)
	return err
}

func refuseUnread(ctx context.Context, tx pgx.Tx, name string) error {
	for _, statement := range []string{`set local lock_timeout = '10s'`, `lock table core.tb_entity_change_log in share row exclusive mode`} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	var behind string
	err := tx.QueryRow(ctx, `select c.transport_name from public.tb_observer_checkpoint c, `+here+`
		where `+ours+` and c.transport_name <> $1 and exists (select from core.tb_entity_change_log l
			where l.xmin <> l.tx_id::xid and l.tx_id < pg_snapshot_xmax(pg_current_snapshot()) and l.tx_id >= pg_snapshot_xmin(c.snapshot_from) and `+unreadRow+`)
		order by 1 limit 1`, name).Scan(&behind)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("this repairs the rows that came from another cluster, and %s has rows of this one to read, which it would lose: "+
		"let observer %[1]s read them, or give them up with: observer checkpoint set %[1]s --to now; then run this again", behind)
}

// CheckListener refuses a name that has no reading position and is none of the configured ones: a position that nobody reads
// from keeps the whole log from being deleted.
func CheckListener(ctx context.Context, db DB, name, configured string) error {
	rows, err := db.Query(ctx, `select transport_name from public.tb_observer_checkpoint union select $1 order by 1`, configured)
	if err != nil {
		return wrap("find checkpoint "+name, err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return wrap("find checkpoint "+name, err)
	}
	if slices.Contains(known, name) {
		return nil
	}
	hint := didYouMean(name, known)
	if hint == "" {
		hint = "; known: " + strings.Join(known, ", ")
	}
	return fmt.Errorf("checkpoint %s: %w, and the configuration has another name%s", name, ErrNotFound, hint)
}

// RemoveCheckpoint forgets a reading position. A reader of that name, running or started later, delivers the whole log
// again. It returns an error that wraps [ErrNotFound] when there is none.
func RemoveCheckpoint(ctx context.Context, db DB, name string) error {
	return wrap("remove checkpoint "+name, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := adopt(ctx, tx, name); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `delete from public.tb_observer_checkpoint where transport_name = $1`, name)
		if err == nil && tag.RowsAffected() == 0 {
			return fmt.Errorf("%w; see: observer checkpoint list", ErrNotFound)
		}
		return err
	}))
}
