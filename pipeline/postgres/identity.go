package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
)

// A copy of a database holds the original's parked deliveries, dead letters, lease and positions, and must send none of
// them. So each position says in which database it was stored, and that is compared with the connected one before anything
// is claimed, read or deleted. A clone of a whole server that is promoted beside it looks like a failover: nothing tells
// these two apart.

// identity is which database it is.
type identity struct {
	system   string // of the cluster; another one after initdb, so after pg_dump and pg_upgrade
	database uint32 // oid, which a rename leaves alone and no copy in the cluster has
	timeline int32  // one more after each promotion; 0 is unknown, as on a standby and where we may not ask
}

// here is the connected database, as one row h. The timeline is that of the position in the log, since
// pg_control_checkpoint tells of a promotion only after the next checkpoint.
const here = `(select s.system_identifier::text as system, d.oid as database,
	case when not pg_is_in_recovery() and to_regprocedure('aurora_version()') is null
		and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute') and has_function_privilege('pg_current_wal_lsn()', 'execute') then ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer end as timeline
	from pg_control_system() s, pg_database d where d.datname = current_database()) h`

const hereColumns = `h.system, h.database, coalesce(h.timeline, 0)`

// ours holds for a checkpoint c that was stored in the database h, or in what that was before a promotion. One that was
// stored by an earlier version has neither oid nor timeline.
const ours = `(c.system_identifier = h.system and coalesce(c.database_oid = h.database, true) and coalesce(c.timeline <= h.timeline, true))`

const storedColumns = `c.system_identifier, coalesce(c.database_oid, 0), coalesce(c.timeline, 0)`

func (i *identity) targets() []any { return []any{&i.system, &i.database, &i.timeline} }

// complete reports whether all parts are known.
func (i *identity) complete() bool { return i.system != "" && i.database != 0 && i.timeline != 0 }

// storedIdentity is where a checkpoint was stored.
type storedIdentity struct {
	name    string
	in      identity
	foreign bool // not in the connected database
}

// recognise returns an error that is [ErrWrongCluster] when the connected database is a copy of the one in which checkpoint
// name was stored. Where that is not known, because there is no such row or one of an earlier version, the others tell.
func recognise(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, name string,
) (now identity, err error) {
	rows, err := db.Query(ctx, `select `+hereColumns+`, coalesce(c.transport_name, ''), coalesce(c.system_identifier, ''), coalesce(c.database_oid, 0), coalesce(c.timeline, 0),
		coalesce(not `+ours+`, false) from `+here+` left join public.tb_observer_checkpoint c on true order by c.transport_name`)
	if err != nil {
		return now, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s storedIdentity, err error) {
		return s, row.Scan(slices.Concat(now.targets(), []any{&s.name}, s.in.targets(), []any{&s.foreign})...)
	})
	if err != nil {
		return now, err
	}
	return now, judge(name, now, list)
}

func judge(name string, now identity, list []storedIdentity) error {
	var own *storedIdentity
	for i := range list {
		if list[i].name == name {
			own = &list[i]
		}
	}
	switch {
	case own != nil && own.foreign:
		return &foreignError{checkpoint: name, of: name, stored: own.in, here: now}
	case slices.ContainsFunc(list, func(s storedIdentity) bool { return !s.foreign && s.in.complete() }):
		return nil
	}
	for _, s := range list {
		// An operator who adopted a copy has taken the system identifier from what stays behind. A row of another cluster
		// says nothing of one that is known to be of this.
		if s.foreign && s.in.system != "" && (own == nil || s.in.system == now.system) {
			return &foreignError{checkpoint: name, of: s.name, stored: s.in, here: now}
		}
	}
	return nil
}

// admit is recognise, and stores in checkpoint name, and in the second one of a bridge, what was not known or was lower
// before a promotion.
func admit(ctx context.Context, tx pgx.Tx, name string) (now identity, err error) {
	if now, err = recognise(ctx, tx, name); err == nil {
		err = stamp(ctx, tx, name)
	}
	return now, err
}

func stamp(ctx context.Context, db execer, name string) error {
	_, err := db.Exec(ctx, `update public.tb_observer_checkpoint c set database_oid = h.database, timeline = h.timeline from `+here+`
		where c.transport_name in ($1, $1 || '`+confirmedSuffix+`') and `+ours+` and (c.database_oid is null or c.timeline is null or c.timeline < h.timeline)`, name)
	return err
}

// primary returns which database db is, and refuses a server that the log must not be read from.
func primary(ctx context.Context, db queryer) (now identity, err error) {
	var replica bool
	err = db.QueryRow(ctx, `select `+hereColumns+`, pg_is_in_recovery() from `+here).Scan(append(now.targets(), &replica)...)
	if err == nil && replica {
		err = errors.New("the server is a replica, where commits appear late and out of order: connect to the primary")
	}
	return now, err
}

// CheckIdentity refuses, with an error that is [ErrWrongCluster], to send what checkpoint name stands for from a copy of the
// database in which it was stored.
func CheckIdentity(ctx context.Context, db DB, name string) error {
	_, err := recognise(ctx, db, name)
	return wrap("check checkpoint "+name, err)
}
