package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// newRole makes a role with a name that needs quoting and no rights but to connect.
func newRole(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	role := "Role " + uuid.NewString()
	quoted := pgx.Identifier{role}.Sanitize()
	execSQL(t, pool, `create role `+quoted+` login; revoke create on schema public from public`)
	return role
}

// asRole is a pool whose sessions have the rights of role alone.
func asRole(t *testing.T, pool *pgxpool.Pool, role string) *pgxpool.Pool {
	t.Helper()
	cfg := pool.Config().Copy()
	cfg.ConnConfig.RuntimeParams["role"] = role
	limited, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(limited.Close)
	require.Equal(t, role, queryOne[string](t, limited, `select current_user::text`))
	return limited
}

func TestAnApplicationsRoleNeedsNoMoreThanGrantApp(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	role := newRole(t, pool)
	app := asRole(t, pool, role)
	execSQL(t, pool, `create table orders (id bigint primary key)`)
	execSQL(t, pool, `grant insert on orders to `+pgx.Identifier{role}.Sanitize())
	_, err := AddCapture(t.Context(), pool, CaptureSpec{Table: "orders"})
	require.NoError(t, err)
	require.NoError(t, EnsureWake(t.Context(), pool, "fraiseql_events", false))

	execSQL(t, app, `insert into orders values (1)`) // captured without any grant
	_, err = app.Exec(t.Context(), `select core.emit_event('Order', '{}')`)
	require.Error(t, err)

	require.NoError(t, GrantApp(t.Context(), pool, role))
	execSQL(t, app, `select core.emit_event('Order', '{}')`)
	execSQL(t, app, `insert into core.tb_entity_change_log (object_type, modification_type, object_data) values ('Order', 'CUSTOM', '{}')`)
	require.Equal(t, int64(3), queryOne[int64](t, pool, `select count(*) from core.tb_entity_change_log`))
	for _, forbidden := range []string{
		`select * from core.tb_entity_change_log`, `delete from core.tb_entity_change_log`, `select * from tb_observer_checkpoint`,
		`insert into core.tb_entity_change_log (object_type, modification_type, tx_id) values ('x', 'CUSTOM', '3')`, `select core.fn_observer_ensure_wake('x', false)`,
	} {
		_, err := app.Exec(t.Context(), forbidden)
		require.ErrorContains(t, err, "permission denied", forbidden)
	}
}

func TestAWorkersRoleNeedsNoMoreThanGrantWorker(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	role := newRole(t, pool)
	require.NoError(t, GrantWorker(t.Context(), pool, role))
	worker := asRole(t, pool, role)
	execSQL(t, pool, `insert into core.tb_observer_lease (name, generation) values ('observer', 1)`)

	require.NoError(t, Migrate(t.Context(), worker, discard), "current objects need no rights")
	require.NoError(t, EnsureWake(t.Context(), worker, "fraiseql_events", false))
	require.NoError(t, SetCheckpoint(t.Context(), worker, "observer", "now"))
	q := newQueue(t, worker, 1)
	d := delivery("1", "o", "a")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	fetchAndAck(t, q)
	dead := &DeadLetters{DB: worker, Listener: "observer", Fence: generation(1)}
	require.NoError(t, dead.Put(t.Context(), d))
	_, err := ListCaptures(t.Context(), worker)
	require.NoError(t, err)
	execSQL(t, worker, `select core.emit_event('Order', '{}')`)
	execSQL(t, worker, `delete from core.tb_entity_change_log`)

	_, err = worker.Exec(t.Context(), `drop table core.tb_entity_change_log`)
	require.ErrorContains(t, err, "must be owner")
	_, err = worker.Exec(t.Context(), `create table core.x (id int)`)
	require.ErrorContains(t, err, "permission denied")
}

func TestGrantToAMissingRole(t *testing.T) {
	t.Parallel()
	err := GrantApp(t.Context(), migratedDB(t), `no "body`)
	require.ErrorContains(t, err, `no such role: run: create role "no ""body" login`)
	require.Equal(t, 1, strings.Count(fmt.Sprint(err), "grant to"))
}
