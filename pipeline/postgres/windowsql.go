package postgres

import (
	"fmt"
	"strings"
)

// beginning is the snapshot that sees no row: 3 is the first normal transaction id.
const beginning = "3:3:"

// snapshot is the text of a pg_snapshot: xmin:xmax:xip1,xip2,…
type snapshot string

// edge returns xmax: a transaction with this id or a later one had not started.
func (s snapshot) edge() string {
	_, rest, _ := strings.Cut(string(s), ":")
	xmax, _, _ := strings.Cut(rest, ":")
	return xmax
}

// running returns the ids that were in progress, as the text of an xid8[].
func (s snapshot) running() string {
	_, rest, _ := strings.Cut(string(s), ":")
	_, xip, _ := strings.Cut(rest, ":")
	return "{" + xip + "}"
}

// closed returns the snapshot that sees every id below edge: not visible in it means tx_id >= edge, said so that no
// index on tx_id can serve it.
func (s snapshot) closed() string {
	return s.edge() + ":" + s.edge() + ":"
}

// queries are the statements that read the change log for one topic. Those that read rows are kept by the limit they
// have: as a parameter it would make the server plan them anew each time, at half the cost of running them.
type queries struct {
	filter, unread string
	byLimit        map[int]*limited
}

// limited are the statements that read pages of up to n rows; a probe reads one more.
type limited struct {
	probe, page, pending string
}

// of is for the reading goroutine alone.
func (q *queries) of(limit int) *limited {
	l := q.byLimit[limit]
	if l == nil {
		l = &limited{probe: probeSQL(q.filter, limit), page: pageSQL(q.filter, limit), pending: pendingSQL(limit)}
		q.byLimit[limit] = l
	}
	return l
}

// outputs are the columns that a [decoder] reads. With cut, a row is larger than the page has room for on average: its
// images are left out, and it is read again in a shorter page. The size on disk is known without reading what was stored
// out of line.
const outputs = `w.pk_entity_change_log, w.id, w.object_type, w.modification_type, coalesce(w.object_key, w.object_id::text),
	case when not w.cut then w.object_data end, case when not w.cut then w.object_data_before end,
	w.tenant_id, w.user_id, w.actor_type, w.schema_version, case when not w.cut then w.extra_metadata end, case when not w.cut then w.trace_context::text end,
	coalesce(w.seq, w.pk_entity_change_log), (extract(epoch from case when w.created_at >= '0001-01-01 00:00+00' and w.created_at < '9999-12-31 00:00+00' then w.created_at else now() end) * 1000000)::bigint, w.cut`

// pageOf takes the first rows of source by primary key and marks those of more than room bytes on disk.
func pageOf(source string, limit, room int) string {
	return fmt.Sprintf(`(select z.*, coalesce(pg_column_size(z.object_data), 0) + coalesce(pg_column_size(z.object_data_before), 0) > %d as cut
		from (%s) z order by z.pk_entity_change_log limit %d) w`, room, source, limit)
}

// newQueries builds the statements. The traps they avoid cost a factor of 100 each: an id list as = any(array(select …))
// scans the table, so a lateral join probes the index for each id; with tx_id = id, order by may be served by the primary
// key, whose whole length is then searched for the id, hence between; a limit outside of the branches sorts the whole
// rest for every page; and with a condition on tx_id that an index serves, the planner may take that index for the walk
// along the primary key, and sort.
func newQueries(topic string) queries {
	filter := ""
	if topic != allTopics {
		filter = "and l.object_type = '" + strings.ReplaceAll(topic, "'", "''") + "'"
	}
	return queries{
		filter: filter, byLimit: map[int]*limited{},
		unread: `select count(*), coalesce((select max(pk_entity_change_log) from core.tb_entity_change_log), 0) from (
			select from core.tb_entity_change_log l where l.pk_entity_change_log > $1
			   and not pg_visible_in_snapshot(l.tx_id, $2::pg_snapshot) ` + filter + ` order by l.pk_entity_change_log limit $3) z`,
	}
}

// floorSQL finds the first row that transaction edge or a later one wrote. The edge stands in the text, because how many such
// rows there are decides the plan.
func floorSQL(edge string) string {
	return `select min(z.pk_entity_change_log) from (select pk_entity_change_log from core.tb_entity_change_log where tx_id >= '` + edge + `'::xid8 offset 0) z`
}

// probeSQL reads a window from the snapshot with edge $1 and running $2 to now, at most one row more than limit. Its first
// row is the new snapshot and the epoch of checkpoint $3: one statement has one snapshot. Rows of ids that this cluster
// has not given out, as after a restore, are not for now.
func probeSQL(filter string, limit int) string {
	source := fmt.Sprintf(`(select l.* from core.tb_entity_change_log l
		 where l.tx_id >= $1::xid8 and pg_visible_in_snapshot(l.tx_id, pg_current_snapshot()) %[1]s
		 order by l.tx_id, l.pk_entity_change_log limit %[2]d)
		union all
		select m.* from unnest($2::xid8[]) x(id) cross join lateral (
			select l.* from core.tb_entity_change_log l where l.tx_id between x.id and x.id %[1]s
			order by l.tx_id, l.pk_entity_change_log limit %[2]d) m`, filter, limit+1)
	return `select null::bigint, null::uuid, null::text, null::text, null::text, null::jsonb, null::jsonb, null::uuid,
		null::text, null::text, null::integer, null::jsonb, null::text, null::bigint, null::bigint, null::boolean,
		pg_current_snapshot()::text, (select epoch from public.tb_observer_checkpoint where transport_name = $3)
	union all
	(select ` + outputs + `, null, null from ` + pageOf(source, limit+1, room(limit)) + `)`
}

// pageSQL reads the next rows after $3 of the window from $1 (closed), $2 (running) to snapshot $4; $5 is the first row of
// the window that was not running.
func pageSQL(filter string, limit int) string {
	source := fmt.Sprintf(`(select l.* from core.tb_entity_change_log l
		 where l.pk_entity_change_log > greatest($3::bigint, $5::bigint - 1)
		   and not pg_visible_in_snapshot(l.tx_id, $1::pg_snapshot) and pg_visible_in_snapshot(l.tx_id, $4::pg_snapshot) %[1]s
		 order by l.pk_entity_change_log limit %[2]d)
		union all
		(select m.* from unnest($2::xid8[]) x(id) cross join lateral (
			select l.* from core.tb_entity_change_log l
			 where l.tx_id between x.id and x.id and l.pk_entity_change_log > $3::bigint and pg_visible_in_snapshot(l.tx_id, $4::pg_snapshot) %[1]s
			 order by l.tx_id, l.pk_entity_change_log limit %[2]d) m
		 order by m.pk_entity_change_log limit %[2]d)`, filter, limit)
	return `select ` + outputs + ` from ` + pageOf(source, limit, room(limit))
}

// pendingSQL reads the next rows after $2 of those named by $1.
func pendingSQL(limit int) string {
	source := `select l.* from core.tb_entity_change_log l where l.pk_entity_change_log = any ($1::bigint[]) and l.pk_entity_change_log > $2::bigint`
	return `select ` + outputs + ` from ` + pageOf(source, limit, room(limit))
}
