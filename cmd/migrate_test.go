package cmd

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMigrateCreatesAndRemovesTheObjects(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	cfg, db := configFor(t, url), connect(t, url)
	for _, time := range []string{"first", "second"} {
		r := observer(t, "", "migrate", "--config", cfg)
		require.Zero(t, r.code, "%s: %s", time, r.err)
		require.Contains(t, r.err, "database objects are up to date")
		require.Empty(t, r.out, "progress is no data")
	}
	require.True(t, one[bool](t, db, `select to_regclass('core.tb_entity_change_log') is not null`))

	refused := observer(t, "", "migrate", "--config", cfg, "--down")
	require.Equal(t, exitUsage, refused.code)
	require.True(t, one[bool](t, db, `select to_regclass('core.tb_entity_change_log') is not null`), "without --yes nothing goes")

	succeeds(t, "migrate", "--config", cfg, "--down", "--yes")
	require.True(t, one[bool](t, db, `select to_regclass('core.tb_entity_change_log') is null`))
}

func TestMigrateGivesRolesTheirRights(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	role := pgx.Identifier{"cmd_grants_" + one[string](t, db, `select current_database()::text`)}.Sanitize()
	run(t, db, `create role `+role)
	t.Cleanup(func() { dropRole(t, db, role) })
	name := role[1 : len(role)-1]
	can := func(right, table string) bool {
		return one[bool](t, db, `select has_table_privilege($1, $2, $3)`, name, table, right)
	}

	r := observer(t, "", "migrate", "--config", cfg, "--grant-app", name)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "role "+name+" may emit events")
	require.False(t, can("select", "core.tb_entity_change_log"))
	require.True(t, one[bool](t, db, `select has_function_privilege($1, 'core.emit_event(text, jsonb, text)', 'execute')`, name))

	succeeds(t, "migrate", "--config", cfg, "--grant-worker", name)
	require.True(t, can("select", "core.tb_entity_change_log"))

	r = observer(t, "", "migrate", "--config", cfg, "--grant-app", "nobody_of_this_name")
	require.Equal(t, exitRuntime, r.code)
	require.Contains(t, r.err, `no such role: run: create role "nobody_of_this_name"`)
}

// dropRole removes a role of a test; roles belong to the cluster, not to the test's database.
func dropRole(t *testing.T, db *pgx.Conn, role string) {
	t.Helper()
	if _, err := db.Exec(background(), `drop owned by `+role+`; drop role `+role); err != nil {
		t.Errorf("drop role %s: %v", role, err)
	}
}
