package postgres

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

// What an original has, and its copies must not send.
const (
	parkedThere = 3
	deadThere   = 2
	unreadThere = 4
)

// original is a database in which a listener and a bridge have worked.
func original(t *testing.T, cluster *testenv.Cluster) string {
	t.Helper()
	h := newRig(t, cluster.NewDatabase(t))
	defer h.pool.Close()
	lease := h.acquire()
	q, err := NewRetryQueue(RetryQueueConfig{DB: h.pool, Listener: "observer", Fence: lease, MaxDeliver: 3})
	require.NoError(t, err)
	for i := range parkedThere {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	for i := range deadThere {
		require.NoError(t, (&DeadLetters{DB: h.pool, Listener: "observer", Fence: lease}).Put(t.Context(), delivery(strconv.Itoa(i), "o", "dead")))
	}
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, "pg_to_nats", "beginning"))
	execSQL(t, h.pool, `insert into tb_observer_checkpoint (transport_name, snapshot_from, system_identifier, stream_created, stream_sequence)
		select 'pg_to_nats:confirmed', snapshot_from, system_identifier, now(), 1000 from tb_observer_checkpoint where transport_name = 'pg_to_nats'`)
	h.emit(1, unreadThere)
	execSQL(t, h.pool, `update core.tb_entity_change_log set created_at = created_at - interval '8 days'`)
	require.NoError(t, lease.Release(t.Context()))
	return h.cfg.URL.Reveal()
}

// copies are the ways to come by a database that looks like the original.
var copies = map[string]struct {
	make   func(t *testing.T, c *testenv.Cluster, url string) string
	origin string // "": it is the original
}{
	"a dump restored into another cluster": {func(t *testing.T, _ *testenv.Cluster, url string) string {
		t.Helper()
		return restored(t, url, testenv.PostgresCluster(t, "fsync=off").NewDatabase(t))
	}, "another database cluster"},
	"a dump restored in the cluster": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		return restored(t, url, c.NewDatabase(t))
	}, "another database of this cluster"},
	"a copy by create database": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		inCluster(t, c, `create database copied template `+databaseOf(t, url))
		return c.At(t, "/copied")
	}, "another database of this cluster"},
	"pg_upgrade": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		c.Stop(t, "fast")
		return c.Upgrade(t).At(t, url)
	}, "another database cluster"},
	"another name": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		inCluster(t, c, `alter database `+databaseOf(t, url)+` rename to renamed`)
		return c.At(t, "/renamed")
	}, ""},
	"a promoted standby": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		standby := c.Standby(t)
		c.Stop(t, "fast") // sends all that it has
		standby.Promote(t)
		return standby.At(t, url)
	}, ""},
	"what an earlier version stored": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		pool := connectTest(t, url)
		defer pool.Close()
		execSQL(t, pool, `update tb_observer_checkpoint set database_oid = null, timeline = null`)
		return url
	}, ""},
	"a server that went back": {func(t *testing.T, c *testenv.Cluster, url string) string {
		t.Helper()
		pool := connectTest(t, url)
		defer pool.Close()
		execSQL(t, pool, `update tb_observer_checkpoint set timeline = 7`)
		return url
	}, "a later timeline"},
}

func restored(t *testing.T, from, to string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dump.sql")
	for _, args := range [][]string{
		{"pg_dump", "--file=" + file, "--dbname=" + from},
		{"psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=" + os.DevNull, "--file=" + file, "--dbname=" + to},
	} {
		output, err := exec.CommandContext(t.Context(), testenv.Tool(t, args[0]), args[1:]...).CombinedOutput()
		require.NoError(t, err, string(output))
	}
	return to
}

func inCluster(t *testing.T, c *testenv.Cluster, statement string) {
	t.Helper()
	pool := connectTest(t, c.URL())
	defer pool.Close()
	execSQL(t, pool, statement)
}

func databaseOf(t *testing.T, target string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	return parsed.Path[1:]
}

func TestACopySendsNothing(t *testing.T) {
	t.Parallel()
	for name, c := range copies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testenv.PostgresCluster(t, "fsync=off")
			h := newRig(t, c.make(t, cluster, original(t, cluster)))
			if c.origin == "" {
				h.isOurs(t)
				return
			}
			h.isCopy(t, c.origin)
			h.isAdopted(t)
			h.isOurs(t)
		})
	}
}

// isOurs sees a listener go on with all that it has.
func (h *rig) isOurs(t *testing.T) {
	t.Helper()
	for _, name := range []string{"observer", "pg_to_nats"} {
		require.NoError(t, CheckIdentity(t.Context(), h.pool, name))
	}
	lease := h.acquire()
	require.Equal(t, int64(1), queryOne[int64](t, h.pool, `select count(*) from tb_observer_checkpoint c, `+here+`
		where c.transport_name = 'observer' and (c.system_identifier, c.database_oid, c.timeline) = (h.system, h.database, h.timeline)`), "it says where it is from now on")
	r := h.reader(lease)
	r.ack(r.take(unreadThere)...)
	q, err := NewRetryQueue(RetryQueueConfig{DB: h.pool, Listener: "observer", Fence: lease, MaxDeliver: 3})
	require.NoError(t, err)
	n, err := (&DeadLetters{DB: h.pool}).RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, deadThere, n)
	require.Len(t, fetchSome(t, q, 10), parkedThere+deadThere)
	r.close()
	execSQL(t, h.pool, `delete from tb_observer_checkpoint where transport_name <> 'observer'`)
	gone, err := DeleteOldRows(t.Context(), h.pool, time.Now().AddDate(0, 0, -7))
	require.NoError(t, err)
	require.Equal(t, int64(unreadThere), gone)
}

// isCopy tries everything that sends, claims or deletes.
func (h *rig) isCopy(t *testing.T, origin string) {
	t.Helper()
	refused := func(err error, name string) {
		t.Helper()
		require.ErrorIs(t, err, ErrWrongCluster)
		require.True(t, IsFatal(err), "it ends the process")
		require.ErrorContains(t, err, "checkpoint "+name+" belongs to "+origin)
		require.ErrorContains(t, err, "run: observer checkpoint set "+name+" --to now|beginning|TIMESTAMP")
	}
	before := h.contents(t)
	ctx, cancel := context.WithTimeout(t.Context(), leaseTTL/2)
	defer cancel()
	execSQL(t, h.pool, `update core.tb_observer_lease set owner = 'the original', expires_at = clock_timestamp() + interval '1 hour'`)
	for _, name := range []string{"observer", "pg_to_nats"} {
		_, err := Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: name, StartFrom: "beginning", Log: h.log})
		refused(err, name)
		refused(CheckIdentity(t.Context(), h.pool, name), name)
	}
	_, err := Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: "new", StartFrom: "beginning", Log: h.log})
	require.ErrorIs(t, err, ErrWrongCluster)
	require.ErrorContains(t, err, "observer checkpoint set new --to")

	topics, err := NewSubscriber(SubscriberConfig{Pool: h.pool, Config: h.cfg, Name: "program"})
	require.NoError(t, err)
	require.ErrorIs(t, topics.SubscribeInitialize("Order"), ErrWrongCluster)
	require.NoError(t, topics.Close())

	generation := generation(queryOne[int64](t, h.pool, `select generation from core.tb_observer_lease where name = 'observer'`))
	q, err := NewRetryQueue(RetryQueueConfig{DB: h.pool, Listener: "observer", Fence: generation, MaxDeliver: 3})
	require.NoError(t, err)
	items, _, err := q.due(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, items, "the lease was copied, too")
	require.ErrorIs(t, q.Park(t.Context(), delivery("9", "o", "a"), time.Now()), ErrDeposed)

	letters := &DeadLetters{DB: h.pool}
	id := queryOne[int64](t, h.pool, `select min(pk_observer_dead_letter) from core.tb_observer_dead_letter`)
	_, err = letters.Retry(t.Context(), id)
	refused(err, "observer")
	_, err = letters.RetryAll(t.Context(), deadletter.Filter{}, nil)
	refused(err, "observer")
	_, err = letters.PlanRetry(t.Context(), deadletter.Filter{})
	refused(err, "observer")

	gone, err := DeleteOldRows(t.Context(), h.pool, time.Now())
	require.NoError(t, err)
	require.Zero(t, gone)
	require.Equal(t, before, h.contents(t))

	list, err := ListCheckpoints(t.Context(), h.pool)
	require.NoError(t, err)
	for _, c := range list {
		if c.Name != "pg_to_nats:confirmed" || origin == "another database cluster" { // the rig stored it as an earlier version does
			require.True(t, c.Foreign, c.Name)
			require.Equal(t, origin, c.Origin)
		}
	}
}

// isAdopted makes a copy a database of its own, one listener after the other.
func (h *rig) isAdopted(t *testing.T) {
	t.Helper()
	execSQL(t, h.pool, `update core.tb_observer_lease set owner = null`)
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, "observer", "beginning"))
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "observer"))
	require.ErrorContains(t, CheckIdentity(t.Context(), h.pool, "pg_to_nats"), "checkpoint pg_to_nats belongs to the database of which this is a copy")
	require.NoError(t, RemoveCheckpoint(t.Context(), h.pool, "pg_to_nats"))
	require.Equal(t, "observer", queryOne[string](t, h.pool, `select string_agg(transport_name, ' ') from tb_observer_checkpoint`), "what was confirmed went with it")
}

// contents is what of the listener could be sent or lost.
func (h *rig) contents(t *testing.T) string {
	t.Helper()
	return queryOne[string](t, h.pool, `select concat_ws(' ',
		(select count(*) from core.tb_observer_retry where claimed_by is null and claims = 0), (select count(*) from core.tb_observer_retry),
		(select count(*) from core.tb_observer_dead_letter where not retrying), (select count(*) from core.tb_entity_change_log),
		(select string_agg(c::text, ' ' order by transport_name) from tb_observer_checkpoint c))`)
}

// TestRemovingACheckpointAdoptsToo starts without a position, and with all that is parked.
func TestRemovingACheckpointAdoptsToo(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "fsync=off")
	h := newRig(t, copies["a copy by create database"].make(t, cluster, original(t, cluster)))
	require.NoError(t, RemoveCheckpoint(t.Context(), h.pool, "observer"))
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "observer"))
	require.Error(t, CheckIdentity(t.Context(), h.pool, "pg_to_nats"))
	lease := h.acquire()
	r := h.reader(lease)
	require.Len(t, r.take(unreadThere), unreadThere, "the whole log again")
}

// TestAnEarlierVersionsCheckpointInACopy has one listener that this version has started in the original, and one that it has not.
func TestAnEarlierVersionsCheckpointInACopy(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "fsync=off")
	from := original(t, cluster)
	pool := connectTest(t, from)
	execSQL(t, pool, `update tb_observer_checkpoint set database_oid = null, timeline = null where transport_name <> 'observer'`)
	require.NoError(t, CheckIdentity(t.Context(), pool, "pg_to_nats"))
	pool.Close()
	h := newRig(t, copies["a copy by create database"].make(t, cluster, from))
	require.ErrorIs(t, CheckIdentity(t.Context(), h.pool, "pg_to_nats"), ErrWrongCluster)
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, "observer", "now"))
	require.ErrorIs(t, CheckIdentity(t.Context(), h.pool, "pg_to_nats"), ErrWrongCluster, "it is left behind")
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, "pg_to_nats", "now"))
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "pg_to_nats"))
}

// TestARowOfAnotherClusterStopsNobodyOfThisOne: one that an earlier version left there, when a dump was restored.
func TestARowOfAnotherClusterStopsNobodyOfThisOne(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	require.NoError(t, h.acquire().Release(t.Context()))
	execSQL(t, h.pool, `insert into tb_observer_checkpoint (transport_name, snapshot_from, system_identifier) values ('forgotten', '10:10:', '123')`)
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "observer"))
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "new"))
	execSQL(t, h.pool, `update tb_observer_checkpoint set database_oid = null, timeline = null`)
	require.NoError(t, CheckIdentity(t.Context(), h.pool, "observer"))
	execSQL(t, h.pool, `delete from tb_observer_checkpoint where transport_name = 'observer'`)
	require.ErrorIs(t, CheckIdentity(t.Context(), h.pool, "observer"), ErrWrongCluster, "nothing tells that it is not of that one")
}

func TestTheWorkersRoleMayAskWhichDatabaseItIs(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	role := newRole(t, h.pool)
	require.NoError(t, GrantWorker(t.Context(), h.pool, role))
	pool := asRole(t, h.pool, role)
	lease, err := Acquire(t.Context(), LeaseConfig{Pool: pool, Config: h.cfg, Name: "observer", StartFrom: "now", Log: h.log})
	require.NoError(t, err)
	require.NoError(t, lease.renew(t.Context()))
	require.NoError(t, lease.Release(t.Context()))
	_, err = ListCheckpoints(t.Context(), pool)
	require.NoError(t, err)
}
