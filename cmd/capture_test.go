package cmd

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/postgres"
)

func TestCaptureIsInstalledListedAndRemoved(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	run(t, db, `create table public.orders (id bigint primary key, status text, secret text, tenant uuid)`)

	added := succeeds(t, "capture", "add", "orders", "--config", cfg, "--entity", "Order", "--exclude", "secret", "--tenant", "tenant", "--no-before")
	require.Equal(t, `public.orders is captured as entity "Order"
  key: id
  all columns but: secret
  tenant: tenant
  before-images of an UPDATE are not kept
to know:
  - TRUNCATE is not captured.
  - Changes made with session_replication_role = replica (logical replication, some restores) are not captured.
next: add an observer with entity = "Order" to `+cfg+`, then: observer run --config `+cfg+"\n", added)

	again := []string{"capture", "add", "orders", "--config", cfg, "--entity", "Order", "--exclude", "secret", "--tenant", "tenant", "--no-before"}
	require.Contains(t, succeeds(t, again...), `public.orders is already captured as entity "Order"`)
	r := observer(t, "", "capture", "add", "orders", "--config", cfg, "--tenant", "tenant")
	require.Equal(t, exitRuntime, r.code)
	require.Contains(t, r.err, "it was made by: observer capture add public.orders --entity Order --exclude secret --no-before --tenant tenant; to replace")
	run(t, db, `insert into orders values (7, 'new', 'hidden')`)
	require.JSONEq(t, `{"id": 7, "status": "new", "tenant": null}`,
		one[string](t, db, `select object_data::text from core.tb_entity_change_log where object_type = 'Order' and object_key = '7'`))

	require.Equal(t, `TABLE          ENTITY  KEY  COLUMNS         BEFORE  TENANT  STATE
public.orders  Order   id   all but secret  no      tenant  ok
`, succeeds(t, "capture", "list", "--config", cfg))
	var listed list[postgres.Capture]
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "capture", "list", "--config", cfg, "--format", "json")), &listed))
	require.Equal(t, 1, listed.Total)
	require.Equal(t, []string{"secret"}, listed.Items[0].Exclude)

	succeeds(t, "capture", "remove", "orders", "--config", cfg)
	empty := observer(t, "", "capture", "list", "--config", cfg)
	require.Zero(t, empty.code)
	require.Empty(t, empty.out)
	require.Contains(t, empty.err, "no table is captured")
	require.JSONEq(t, `{"items": [], "total": 0}`, succeeds(t, "capture", "list", "--config", cfg, "--format", "json"))
	run(t, db, `insert into orders values (8, 'new')`)
	require.Zero(t, one[int](t, db, `select count(*) from core.tb_entity_change_log where object_key = '8'`))
}

func TestCaptureTakesKeyAndColumns(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	run(t, db, `create table lines (a int, b text, note text, secret text)`)
	var report postgres.CaptureReport
	out := succeeds(t, "capture", "add", "lines", "--config", cfg, "--key", "a,b", "--columns", "a,b,note", "--format", "json")
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, []string{"a", "b"}, report.Key)
	require.Equal(t, []string{"a", "b", "note"}, report.Columns)
	require.Equal(t, "lines", report.Entity)
	require.NotEmpty(t, report.Notes)
	run(t, db, `insert into lines values (1, 'x', 'n', 'hidden')`)
	require.JSONEq(t, `{"a": 1, "b": "x", "note": "n"}`, one[string](t, db, `select object_data::text from core.tb_entity_change_log`))
}

func TestCaptureNamesTheNextStepOfADeclaredObserver(t *testing.T) {
	t.Parallel()
	_, db := database(t)
	run(t, db, `create table orders (id int primary key)`)
	declared := file(t, "observer.toml", `
[transport.postgres]
url = "`+db.Config().ConnString()+`"

[[observers]]
entity = "Order"

[[observers.actions]]
type = "webhook"
url_env = "A_VARIABLE_THAT_ONLY_RUN_NEEDS"
`)
	out := succeeds(t, "capture", "add", "orders", "--entity", "Order", "--config", declared)
	require.Contains(t, out, "\nnext: observer run --config "+declared+"\n")
}

func TestCaptureExplainsWhatItCannotDo(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	run(t, db, `create table orders (id int primary key, status text)`)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"a misspelt table":                  {[]string{"add", "order"}, "orders"},
		"a table that is nowhere":           {[]string{"add", "nothing_like_it"}, "not found"},
		"a misspelt column":                 {[]string{"add", "orders", "--columns", "stauts"}, `has no column "stauts"`},
		"our own table":                     {[]string{"add", "core.tb_entity_change_log"}, "belongs to observer itself"},
		"removing from an uncaptured table": {[]string{"remove", "orders"}, "observer capture list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observer(t, "", append(append([]string{"capture"}, test.args...), "--config", cfg)...)
			require.Equal(t, exitRuntime, r.code)
			require.Empty(t, r.out)
			require.Contains(t, r.err, test.says)
		})
	}
}

// TestTheCommandThatIsPrintedMendsACapture types what the list says, as it says it.
func TestTheCommandThatIsPrintedMendsACapture(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	run(t, db, `create table public.orders (id bigint primary key, status text, secret text, tenant uuid)`)
	succeeds(t, "capture", "add", "orders", "--config", cfg, "--entity", "Order", "--exclude", "secret", "--tenant", "tenant", "--no-before")
	run(t, db, `alter table orders rename column secret to "the secret, renamed"`)

	const command = `observer capture add public.orders --entity Order --exclude '"the secret, renamed"' --no-before --tenant tenant --replace`
	const problem = `excluded column "secret" is named "the secret, renamed" now: changes become dead letters`
	require.Equal(t, `TABLE          ENTITY  KEY  COLUMNS         BEFORE  TENANT  STATE
public.orders  Order   id   all but secret  no      tenant  drifted

public.orders is drifted: `+problem+`
  run: `+command+`
`, succeeds(t, "capture", "list", "--config", cfg))
	var listed list[map[string]any]
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "capture", "list", "--config", cfg, "--format", "json")), &listed))
	require.Equal(t, map[string]any{
		"table": "public.orders", "entity": "Order", "key": []any{"id"}, "default_key": true, "columns": []any{}, "exclude": []any{"secret"},
		"before": false, "no_before": true, "tenant": "tenant", "state": "drifted", "problem": problem, "command": command,
	}, listed.Items[0])

	dry := observer(t, "", "run", "--dry-run", "--config", cfg)
	require.Zero(t, dry.code, dry.err)
	require.Contains(t, dry.out, "note     capture      public.orders is captured as Order and drifted: "+problem+"; run: "+command+"\n")

	succeeds(t, "capture", "add", "public.orders", "--entity", "Order", "--exclude", `"the secret, renamed"`, "--no-before", "--tenant", "tenant", "--replace", "--config", cfg)
	require.Contains(t, succeeds(t, "capture", "list", "--config", cfg), "  ok\n")
	run(t, db, `insert into orders values (7, 'new', 'hidden')`)
	require.JSONEq(t, `{"id": 7, "status": "new", "tenant": null}`, one[string](t, db, `select object_data::text from core.tb_entity_change_log where object_key = '7'`))

	run(t, db, `drop table orders`)
	require.Contains(t, succeeds(t, "capture", "list", "--config", cfg), "public.orders is missing: the table was dropped\n  run: observer capture remove public.orders\n")
	succeeds(t, "capture", "remove", "public.orders", "--config", cfg)
	require.Empty(t, succeeds(t, "capture", "list", "--config", cfg))
}
