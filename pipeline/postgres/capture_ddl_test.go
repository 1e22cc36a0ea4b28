package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// secretValue stands in every row, in a column that only some captures exclude.
const secretValue = "S3CRET"

// part is a column with a role in a definition.
type part struct {
	column string
	spec   CaptureSpec
	flags  string // of the command that makes it
}

var parts = map[string]part{
	"excluded":    {"secret", CaptureSpec{Exclude: []string{"secret"}}, " --exclude secret"},
	"key":         {"code", CaptureSpec{Key: []string{"code"}}, " --key code"},
	"default key": {"id", CaptureSpec{}, ""},
	"tenant":      {"org", CaptureSpec{Tenant: "org"}, " --tenant org"},
	"included":    {"note", CaptureSpec{Columns: []string{"id", "note"}}, " --columns id,note"},
	"none":        {"note", CaptureSpec{}, ""},
}

// told is what is expected of a capture after a change of its table.
type told struct {
	state   CaptureState
	problem string
	flags   string // of the command that mends it
	rows    int    // of the change log, of five changes
	markers int    // of these
}

var fits = told{CaptureOK, "", "", 5, 0}

// change is a change of a table: T is the table, C the column.
type change struct {
	sql         string
	partitioned bool
	converted   bool // only tables of other owners can have it
	lists       string
	writes      string // the table that is written to; default T
	want        func(name string, p part, converted bool) told
}

func all(w told) func(string, part, bool) told {
	return func(_ string, p part, _ bool) told {
		if w.state != CaptureOK {
			w.flags = p.flags
		}
		return w
	}
}

func each(m map[string]told) func(string, part, bool) told {
	return func(name string, _ part, _ bool) told {
		if w, ok := m[name]; ok {
			return w
		}
		return fits
	}
}

const dead = ": changes become dead letters"

// swapped is what is expected when another column takes the name.
func swapped(name string, _ part, converted bool) told {
	key := told{CaptureDrifted, `key column "code" is named "code2" now: events have the other column as their key`, " --key code2", 5, 0}
	first := told{CaptureDrifted, `key column "id" is named "id2" now: events have the other column as their key`, "", 5, 0}
	if converted {
		key = told{CaptureDrifted, `key column "code" is named "code2" now` + dead, " --key code2", 5, 5}
		first = told{CaptureDrifted, `key column "id" is named "id2" now` + dead, "", 5, 5}
	}
	return each(map[string]told{
		"excluded": {CaptureDrifted, `excluded column "secret" is named "secret2" now` + dead, " --exclude secret,secret2", 5, 5},
		"key":      key, "default key": first,
		"tenant":   {CaptureDrifted, `tenant column "org" is named "org2" now` + dead, " --tenant org2", 5, 5},
		"included": {CaptureDrifted, `included column "note" is named "note2" now` + dead, " --columns id,note2", 5, 5},
	})(name, part{}, converted)
}

var changes = map[string]change{
	"rename": {sql: `alter table {t} rename column {c} to {c}2`, want: each(map[string]told{
		"excluded":    {CaptureDrifted, `excluded column "secret" is named "secret2" now` + dead, " --exclude secret2", 5, 5},
		"key":         {CaptureDrifted, `key column "code" is named "code2" now` + dead, " --key code2", 5, 5},
		"default key": {CaptureDrifted, `key column "id" is named "id2" now` + dead, "", 5, 5},
		"tenant":      {CaptureDrifted, `tenant column "org" is named "org2" now` + dead, " --tenant org2", 5, 5},
		"included":    {CaptureDrifted, `included column "note" is named "note2" now: events are without it`, " --columns id,note2", 5, 0},
	})},
	"drop": {sql: `alter table {t} drop column {c}`, want: each(map[string]told{
		"excluded":    {CaptureDrifted, `excluded column "secret" was dropped` + dead, "", 5, 5},
		"key":         {CaptureDrifted, `key column "code" was dropped` + dead, "", 5, 5},
		"default key": {CaptureDrifted, `key column "id" was dropped` + dead, "", 5, 5},
		"tenant":      {CaptureDrifted, `tenant column "org" was dropped` + dead, "", 5, 5},
		"included":    {CaptureDrifted, `included column "note" was dropped: events are without it`, " --columns id", 5, 0},
	})},
	"drop and add again": {sql: `alter table {t} drop column {c}; alter table {t} add column {c} {type}`, want: each(map[string]told{
		"key":         {CaptureDrifted, `key column "code" was dropped and made again: changes without a value there become dead letters`, " --key code", 5, 2},
		"default key": {CaptureDrifted, `key column "id" was dropped and made again: changes without a value there become dead letters`, " --key id", 5, 2},
		"tenant":      {CaptureDrifted, `tenant column "org" was dropped and made again: changes without a value there become dead letters`, " --tenant org", 5, 2},
		"included":    {CaptureDrifted, `included column "note" was dropped and made again` + dead, " --columns id,note", 5, 5},
	})},
	"rename and another column of the name": {sql: `alter table {t} rename column {c} to {c}2; alter table {t} add column {c} {type}`, want: func(name string, _ part, converted bool) told {
		key := told{CaptureDrifted, `key column "code" is named "code2" now: events have the other column as their key`, " --key code2", 5, 2}
		first := told{CaptureDrifted, `key column "id" is named "id2" now: events have the other column as their key`, "", 5, 2}
		if converted { // which has no fast path
			key = told{CaptureDrifted, `key column "code" is named "code2" now` + dead, " --key code2", 5, 5}
			first = told{CaptureDrifted, `key column "id" is named "id2" now` + dead, "", 5, 5}
		}
		return each(map[string]told{
			"excluded": {CaptureDrifted, `excluded column "secret" is named "secret2" now` + dead, " --exclude secret,secret2", 5, 5},
			"key":      key, "default key": first,
			"tenant":   {CaptureDrifted, `tenant column "org" is named "org2" now` + dead, " --tenant org2", 5, 5},
			"included": {CaptureDrifted, `included column "note" is named "note2" now` + dead, " --columns id,note2", 5, 5},
		})(name, part{}, converted)
	}},
	"two columns change names": {sql: `alter table {t} rename column {c} to {c}2; alter table {t} rename column other to {c}`, want: swapped},
	"another type":             {sql: `alter table {t} alter column {c} drop default, alter column {c} type varchar(100)`, want: all(fits)},
	"a type that holds no tenant": {sql: `alter table {t} alter column org type bigint using 7`, want: each(map[string]told{
		"tenant": {CaptureDrifted, `tenant column "org" can hold no tenant, since its type is neither uuid nor text` + dead, "", 5, 5},
	})},
	"rename the table":        {sql: `alter table {t} rename to {b}_new`, lists: "{t}_new", writes: "{t}_new", want: all(fits)},
	"move to another schema":  {sql: `create schema if not exists {s}; alter table {t} set schema {s}`, lists: "{s}.{b}", writes: "{s}.{b}", want: all(fits)},
	"replace the table":       {sql: `alter table {t} rename to {b}_old; create table {t} (like {t}_old including all)`, want: all(told{CaptureMissing, "the captured table is {t}_old now, and another one has its name: no change of that one is captured", "", 0, 0})},
	"drop and make the table": {sql: `create table {t}_keep (like {t} including all); drop table {t}; alter table {t}_keep rename to {b}`, want: all(told{CaptureMissing, "the captured table is gone, and another one has its name: no change of that one is captured", "", 0, 0})},
	"detach a partition":      {sql: `alter table {t} detach partition {t}_2`, partitioned: true, want: all(fits)},
	"a new partition":         {sql: `drop table {t}_1, {t}_2; create table {t}_new partition of {t} default`, partitioned: true, want: all(fits)},
	"attach a partition":      {sql: `drop table {t}_1, {t}_2; create table {t}_new (like {t} including all); alter table {t} attach partition {t}_new default`, partitioned: true, want: all(fits)},
	"rename in a table with an attached partition": {
		sql:         `drop table {t}_1, {t}_2; create table {t}_new (zero int, like {t} including all); alter table {t}_new drop column zero; alter table {t} attach partition {t}_new default; alter table {t} rename column {c} to {c}2; alter table {t} rename column other to {c}`,
		partitioned: true, want: func(name string, p part, converted bool) told {
			if name == "default key" {
				return told{} // a partition key
			}
			return swapped(name, p, converted)
		},
	},
	"disable the trigger":             {sql: `alter table {t} disable trigger "00_observer_capture"`, want: all(told{CaptureDisabled, "its trigger is disabled: no change is captured", "", 0, 0})},
	"disable all triggers":            {sql: `alter table {t} disable trigger user`, want: all(told{CaptureDisabled, "its trigger is disabled: no change is captured", "", 0, 0})},
	"enable the trigger for replicas": {sql: `alter table {t} enable replica trigger "00_observer_capture"`, want: all(told{CaptureDisabled, "its trigger is disabled: no change is captured", "", 0, 0})},
	"enable the trigger always": {sql: `alter table {t} enable always trigger "00_observer_capture"`, want: func(_ string, p part, converted bool) told {
		if converted {
			return told{CaptureDrifted, "the trigger 00_observer_as_writer does not fire where 00_observer_capture does, with session_replication_role = replica" + dead, p.flags, 5, 0}
		}
		return fits
	}},
	"disable the trigger of a partition": {sql: `alter table {t}_1 disable trigger user`, partitioned: true, want: all(told{CaptureDisabled, "its trigger is disabled on {t}_1: no change there is captured", "", 0, 0})},
	"drop the trigger":                   {sql: `drop trigger "00_observer_capture" on {t}`, want: all(told{CaptureMissing, "its trigger is gone: no change is captured", "", 0, 0})},
	"drop the converting trigger":        {sql: `drop trigger "00_observer_as_writer" on {t}`, converted: true, want: all(told{CaptureDrifted, "the trigger 00_observer_as_writer is gone" + dead, "", 5, 5})},
	"disable the converting trigger":     {sql: `alter table {t} disable trigger "00_observer_as_writer"`, converted: true, want: all(told{CaptureDrifted, "the trigger 00_observer_as_writer is disabled" + dead, "", 5, 5})},
	"another primary key": {sql: `alter table {t} drop constraint {b}_pkey, add primary key (id, note)`, want: func(name string, p part, _ bool) told {
		if name == "key" {
			return fits
		}
		return told{CaptureDrifted, "the primary key is (id, note) now: events keep the key of before", p.flags, 5, 0}
	}},
	"no primary key": {sql: `alter table {t} drop constraint {b}_pkey`, want: func(name string, p part, _ bool) told {
		if name == "key" {
			return fits
		}
		return told{CaptureDrifted, "the primary key is gone: events keep the key of before", " --key id" + p.flags, 5, 0}
	}},
}

// altered is one table of the test.
type altered struct {
	t         *testing.T
	db        *pgxpool.Pool // as the owner of the table
	log       *pgxpool.Pool // as the owner of the change log
	name      string        // schema.table
	entity    string
	part      part
	role      string
	converted bool
}

// insert makes a statement that fills the columns which a table has now.
func (a *altered) insert(table string, id int) string {
	a.t.Helper()
	rows, err := a.log.Query(a.t.Context(), `select attname::text, atttypid::regtype::text from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped`, table)
	require.NoError(a.t, err)
	var columns, values []string
	var column, kind string
	_, err = pgx.ForEachRow(rows, []any{&column, &kind}, func() error {
		value := fmt.Sprintf("'%s%d'", secretValue, id)
		switch {
		case kind == "bigint":
			value = strconv.Itoa(id)
		case kind == "uuid", strings.HasPrefix(column, "org"):
			value = "'7e57ab1e-0000-4000-8000-000000000001'"
		case !strings.HasPrefix(column, "secret"):
			value = fmt.Sprintf("'v%d'", id)
		}
		columns, values = append(columns, pgx.Identifier{column}.Sanitize()), append(values, value)
		return nil
	})
	require.NoError(a.t, err)
	return `insert into ` + table + ` (` + strings.Join(columns, ", ") + `) values (` + strings.Join(values, ", ") + `)`
}

func (a *altered) count(condition string) int {
	a.t.Helper()
	return queryOne[int](a.t, a.log, `select count(*) from core.tb_entity_change_log l where object_type = '`+a.entity+`' and `+condition)
}

// holds checks what must hold of whatever is logged.
func (a *altered) holds() {
	a.t.Helper()
	if a.role == "excluded" {
		require.Zero(a.t, a.count(`l::text like '%`+secretValue+`%'`), "the excluded value is in the log")
	}
	if a.role == "tenant" {
		require.Zero(a.t, a.count(`extra_metadata is null and tenant_id is null`), "a tenant vanished")
	}
	require.Zero(a.t, a.count(`extra_metadata is null and object_key is null`), "a key vanished")
	require.Zero(a.t, a.count(`extra_metadata is not null and num_nonnulls(object_data, object_data_before, tenant_id) > 0`), "a marker row holds something of the row")
}

// write makes five changes: an insert, and an update and a delete of the two rows that are there then.
func (a *altered) write(table string, id int) {
	a.t.Helper()
	column := queryOne[string](a.t, a.log, `select quote_ident(attname) from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum limit 1`, table)
	for _, sql := range []string{a.insert(table, id), fmt.Sprintf(`update %s set %s = %[2]s`, table, column), `delete from ` + table} {
		_, err := a.db.Exec(a.t.Context(), sql)
		require.NoError(a.t, err, "the application's statement failed")
	}
}

func (a *altered) captures() (list []Capture) {
	a.t.Helper()
	every, err := ListCaptures(a.t.Context(), a.log)
	require.NoError(a.t, err)
	for _, c := range every {
		if c.Entity == a.entity {
			list = append(list, c)
		}
	}
	return list
}

// capture returns what is listed of a table.
func (a *altered) capture(table string) Capture {
	a.t.Helper()
	for _, c := range a.captures() {
		if c.Table == table {
			return c
		}
	}
	a.t.Fatalf("%s is not listed: %+v", table, a.captures())
	return Capture{}
}

// typed does what a command says.
func typed(t *testing.T, db DB, command string) error {
	t.Helper()
	words := strings.Fields(command)
	require.Equal(t, []string{"observer", "capture"}, words[:2])
	if words[2] == "remove" {
		return RemoveCapture(t.Context(), db, words[3])
	}
	spec := CaptureSpec{Table: words[3]}
	for i := 4; i < len(words); i++ {
		switch flag := words[i]; flag {
		case "--replace":
			spec.Replace = true
			continue
		case "--entity":
			spec.Entity = words[i+1]
		case "--key":
			spec.Key = strings.Split(words[i+1], ",")
		case "--columns":
			spec.Columns = strings.Split(words[i+1], ",")
		case "--exclude":
			spec.Exclude = strings.Split(words[i+1], ",")
		case "--tenant":
			spec.Tenant = words[i+1]
		default:
			t.Fatalf("flag %s", flag)
		}
		i++
	}
	_, err := AddCapture(t.Context(), db, spec)
	return err
}

// TestACaptureFollowsWhatHappensToItsTableOrFailsClosed makes every change of every role on a table of its own.
func TestACaptureFollowsWhatHappensToItsTableOrFailsClosed(t *testing.T) {
	t.Parallel()
	for path, converted := range map[string]bool{"rows that the capture function converts": false, "rows that the writer converts": true} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			pool := migratedDB(t)
			owner := pool
			execSQL(t, pool, `create schema own; revoke create on schema public from public`)
			if converted {
				role := newRole(t, pool)
				require.NoError(t, GrantApp(t.Context(), pool, role))
				quoted := pgx.Identifier{role}.Sanitize()
				execSQL(t, pool, `alter schema own owner to `+quoted+`; grant create on database `+queryOne[string](t, pool, `select current_database()::text`)+` to `+quoted)
				owner = asRole(t, pool, role)
			}
			n := 0
			for name, c := range changes {
				if c.converted && !converted {
					continue
				}
				for role, p := range parts {
					n++
					a := &altered{t, owner, pool, fmt.Sprintf("own.t%d", n), fmt.Sprintf("E%d", n), p, role, converted}
					if c.want(role, p, converted).state != "" {
						t.Run(name+" of "+role, func(t *testing.T) {
							a.t = t
							a.run(c)
						})
					}
				}
			}
		})
	}
}

func (a *altered) run(c change) {
	bare := strings.TrimPrefix(a.name, "own.")
	kind := map[string]string{"org": "uuid", "id": "bigint"}[a.part.column]
	if kind == "" {
		kind = "text"
	}
	sql := strings.NewReplacer("{t}", a.name, "{b}", bare, "{s}", "s_"+bare, "{c}", a.part.column, "{type}", kind).Replace
	by := ""
	if c.partitioned {
		by = ` partition by range (id)`
	}
	execSQL(a.t, a.db, `create table `+a.name+` (id bigint, code text, secret text, org uuid, note text not null, other `+kind+`, primary key (id))`+by)
	if c.partitioned {
		execSQL(a.t, a.db, sql(`create table {t}_1 partition of {t} for values from (0) to (100); create table {t}_2 partition of {t} for values from (100) to (200)`))
	}
	spec := a.part.spec
	spec.Table, spec.Entity = a.name, a.entity
	_, err := AddCapture(a.t.Context(), a.db, spec)
	require.NoError(a.t, err)
	table := a.name
	if c.writes != "" {
		table = sql(c.writes)
	}
	want := c.want(a.role, a.part, a.converted)
	if !strings.Contains(c.sql, "drop table") && want.rows > 0 {
		execSQL(a.t, a.db, a.insert(a.name, 1))
	}
	execSQL(a.t, a.log, `delete from core.tb_entity_change_log where object_type = '`+a.entity+`'`)

	execSQL(a.t, a.db, sql(c.sql))
	listed := a.name
	if c.lists != "" {
		listed = sql(c.lists)
	}
	got := a.capture(listed)
	require.Equal(a.t, want.state, got.State, got.Problem)
	require.Equal(a.t, sql(want.problem), got.Problem)
	if want.state != CaptureOK {
		command := "observer capture add " + listed + " --entity " + a.entity + want.flags
		if want.state != CaptureMissing {
			command += " --replace"
		}
		require.Equal(a.t, command, got.Command)
	}
	rows := want.rows
	if rows > 0 && strings.Contains(c.sql, "drop table") {
		rows = 3 // there is no row of before
	}
	a.write(table, 2)
	a.holds()
	require.Equal(a.t, rows, a.count("true"), "changes that are logged")
	markers := want.markers
	if rows == 3 {
		markers = min(markers, 3)
	}
	require.Equal(a.t, markers, a.count("extra_metadata is not null"), "changes that become dead letters")
	if want.state == CaptureOK {
		return
	}

	require.NoError(a.t, typed(a.t, a.db, got.Command))
	mended := a.capture(listed)
	require.Equal(a.t, CaptureOK, mended.State, mended.Problem)
	execSQL(a.t, a.log, `delete from core.tb_entity_change_log where object_type = '`+a.entity+`'`)
	a.write(table, 3)
	require.Equal(a.t, 3, a.count("extra_metadata is null"), "it is captured again")
	if len(mended.Key) > 0 && mended.Tenant == a.part.spec.Tenant {
		a.holds()
	}
}
