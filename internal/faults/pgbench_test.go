package faults

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/internal/testenv"
)

var pgbenchTime = pick(2*time.Second, 60*time.Second)

// tally counts what pgbench's changes became at a receiver.
type tally struct {
	mu         sync.Mutex // guards what follows
	seen       map[int64]bool
	last       map[string]int64 // by account, the log row of the latest change
	twice      int
	disordered int
}

func (a *tally) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it has not arrived
	}
	e := gjson.GetManyBytes(body, "seq", "entity_type", "entity_id")
	seq, entity := e[0].Int(), e[1].Str+"/"+e[2].Str
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[seq] {
		a.twice++
	}
	a.seen[seq] = true
	if e[2].Str == "" { // pgbench_history has no key, and so no order to keep
		return
	}
	if a.last[entity] > seq {
		a.disordered++
	}
	a.last[entity] = seq
}

func (a *tally) arrived() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// TestPgbenchLosesNothing captures pgbench's own tables and lets it run: each of its transactions changes an account and
// adds a row to the history. Within an account the log's rows are in commit order, because the row is locked.
func TestPgbenchLosesNothing(t *testing.T) {
	scenario(t)
	w := &world{url: testenv.Postgres(t), dir: t.TempDir()}
	runTool(t, "pgbench", "--initialize", "--quiet", "--scale=1", w.url)
	counted := &tally{seen: map[int64]bool{}, last: map[string]int64{}}
	server := httptest.NewServer(counted)
	t.Cleanup(server.Close)
	config := filepath.Join(w.dir, "observer.toml")
	text := fmt.Sprintf("[transport.postgres]\nurl = %q\n[admin]\nlisten = \"\"\n[[observers]]\nentity = \"*\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = %q\n", w.url, server.URL)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	_, stderr, code := call(t, config, "migrate")
	require.Zero(t, code, stderr)
	for _, table := range []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"} {
		_, stderr, code := call(t, config, "capture", "add", table)
		require.Zero(t, code, stderr)
	}
	o := startObserver(t, config)
	o.leads(t)
	runTool(t, "pgbench", "-N", "-c", "8", "-j", "2", "-T", strconv.Itoa(int(pgbenchTime.Seconds())), w.url)
	committed := query[int](t, w, `select count(*) from core.tb_entity_change_log`)
	require.Equal(t, 2*query[int](t, w, `select count(*) from pgbench_history`), committed, "an update and an insert for each transaction")
	testenv.Eventually(t, 2*within, func() error {
		if have := counted.arrived(); have < committed {
			return fmt.Errorf("%d of %d changes arrived", have, committed)
		}
		return nil
	})
	code, _ = o.terminate(t)
	require.Zero(t, code)
	report(t, "pgbench -N -c 8 -j 2, its tables captured", verdict{
		events: committed, lost: committed - counted.arrived(), disorder: counted.disordered, unexplained: counted.twice, duplicates: counted.twice,
	}, -1)
}
