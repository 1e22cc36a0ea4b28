package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// inbox is a receiver that keeps what it got, as text: "/path UPDATE 7 before -> data changes".
type inbox struct {
	url string

	mu   sync.Mutex // guards what follows
	got  []string
	read int // of got, by earlier calls of next
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	box := &inbox{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		text := fmt.Sprint(err)
		if err == nil {
			text = describe(r, body)
		}
		box.mu.Lock()
		defer box.mu.Unlock()
		box.got = append(box.got, text)
	}))
	t.Cleanup(server.Close)
	box.url = server.URL
	return box
}

// describe holds each request against the contract as well.
func describe(r *http.Request, body []byte) string {
	var e struct {
		ID       string          `json:"id"`
		Type     string          `json:"event_type"`
		Entity   string          `json:"entity_type"`
		EntityID string          `json:"entity_id"`
		Data     json.RawMessage `json:"data"`
		Before   json.RawMessage `json:"before"`
		Changes  json.RawMessage `json:"changes"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return err.Error()
	}
	if id := r.Header.Get("webhook-id"); id != e.ID+"_"+strings.Trim(r.URL.Path, "/")+"_webhook-1" || id != r.Header.Get("Idempotency-Key") {
		return "webhook-id " + id
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" || r.Method != http.MethodPost {
		return r.Method + " of " + kind
	}
	return fmt.Sprintf("%s %s %s %s %s -> %s %s", r.URL.Path, e.Entity, e.Type, e.EntityID, compact(e.Before), compact(e.Data), compact(e.Changes))
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err.Error()
	}
	return b.String()
}

// next returns the next n requests, sorted: those of different rows may come in any order.
func (i *inbox) next(t *testing.T, n int) []string {
	t.Helper()
	testenv.Eventually(t, 2*within, func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		if have := len(i.got) - i.read; have < n {
			return fmt.Errorf("%d of %d requests arrived", have, n)
		}
		return nil
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	list := slices.Clone(i.got[i.read : i.read+n])
	i.read += n
	slices.Sort(list)
	return list
}

const ordersConfig = `
[transport.postgres]
url = %q
[admin]
listen = ""
[[observers]]
name = "all"
entity = "*"
[[observers.actions]]
type = "webhook"
url = "%[2]s/all"
[[observers]]
name = "shipped"
entity = "Order"
event_type = "UPDATE"
condition = "changed_to('status', 'shipped')"
[[observers.actions]]
type = "webhook"
url = "%[2]s/shipped"
`

// TestEveryKindOfChangeReachesTheReceiver breaks nothing: each kind of change gives exactly its requests, in the file's
// order of statements, and what was rolled back gives none.
func TestEveryKindOfChangeReachesTheReceiver(t *testing.T) {
	scenario(t)
	url, box := testenv.Postgres(t), newInbox(t)
	w := &world{url: url}
	execute(t, w, `create table orders (id bigint primary key, status text not null, total numeric(12,2), note text)`)
	config := filepath.Join(t.TempDir(), "observer.toml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, ordersConfig, url, box.url), 0o600))
	for _, args := range [][]string{{"migrate"}, {"capture", "add", "orders", "--entity", "Order"}} {
		_, stderr, code := call(t, config, args...)
		require.Zero(t, code, stderr)
	}
	o := startObserver(t, config)
	o.leads(t)

	for _, step := range []struct {
		does, sql string
		want      []string
	}{
		{"an insert", `insert into orders values (9007199254740993, 'new', 100.50)`, []string{
			`/all Order INSERT 9007199254740993 null -> {"id":9007199254740993,"note":null,"total":100.50,"status":"new"} null`,
		}},
		{"an update to shipped", `update orders set status = 'shipped'`, []string{
			`/all Order UPDATE 9007199254740993 {"id":9007199254740993,"note":null,"total":100.50,"status":"new"} -> {"id":9007199254740993,"note":null,"total":100.50,"status":"shipped"} {"status":{"old":"new","new":"shipped"}}`,
			`/shipped Order UPDATE 9007199254740993 {"id":9007199254740993,"note":null,"total":100.50,"status":"new"} -> {"id":9007199254740993,"note":null,"total":100.50,"status":"shipped"} {"status":{"old":"new","new":"shipped"}}`,
		}},
		{"an update of something else", `update orders set total = 7`, []string{
			`/all Order UPDATE 9007199254740993 {"id":9007199254740993,"note":null,"total":100.50,"status":"shipped"} -> {"id":9007199254740993,"note":null,"total":7.00,"status":"shipped"} {"total":{"old":100.50,"new":7.00}}`,
		}},
		{"a rolled back change", `begin; insert into orders values (5, 'lost'); rollback`, nil},
		{"a delete", `delete from orders`, []string{
			`/all Order DELETE 9007199254740993 {"id":9007199254740993,"note":null,"total":7.00,"status":"shipped"} -> {"id":9007199254740993,"note":null,"total":7.00,"status":"shipped"} null`,
		}},
		{"a change inside a savepoint that is rolled back", `begin; insert into orders values (1, 'kept'); savepoint s; insert into orders values (2, 'lost');
			update orders set status = 'lost'; rollback to s; insert into orders values (3, 'kept'); commit`, []string{
			`/all Order INSERT 1 null -> {"id":1,"note":null,"total":null,"status":"kept"} null`,
			`/all Order INSERT 3 null -> {"id":3,"note":null,"total":null,"status":"kept"} null`,
		}},
		{"an update of several rows", `update orders set status = 'shipped', note = 'x'`, []string{
			`/all Order UPDATE 1 {"id":1,"note":null,"total":null,"status":"kept"} -> {"id":1,"note":"x","total":null,"status":"shipped"} {"note":{"old":null,"new":"x"},"status":{"old":"kept","new":"shipped"}}`,
			`/all Order UPDATE 3 {"id":3,"note":null,"total":null,"status":"kept"} -> {"id":3,"note":"x","total":null,"status":"shipped"} {"note":{"old":null,"new":"x"},"status":{"old":"kept","new":"shipped"}}`,
			`/shipped Order UPDATE 1 {"id":1,"note":null,"total":null,"status":"kept"} -> {"id":1,"note":"x","total":null,"status":"shipped"} {"note":{"old":null,"new":"x"},"status":{"old":"kept","new":"shipped"}}`,
			`/shipped Order UPDATE 3 {"id":3,"note":null,"total":null,"status":"kept"} -> {"id":3,"note":"x","total":null,"status":"shipped"} {"note":{"old":null,"new":"x"},"status":{"old":"kept","new":"shipped"}}`,
		}},
		{"custom events of a transaction and of one that is rolled back", `begin; select core.emit_event('Refund', '{"n": 1.10}', '7'); commit; begin; select core.emit_event('Refund', '{}'); rollback`, []string{
			`/all Refund CUSTOM 7 null -> {"n":1.10} null`,
		}},
		{"a row of five megabytes", `insert into orders values (4, 'large', null, repeat('0123456789', 500000))`, []string{
			`/all Order INSERT 4 null -> {"id":4,"note":"` + strings.Repeat("0123456789", 500_000) + `","total":null,"status":"large"} null`,
		}},
	} {
		execute(t, w, step.sql)
		if got := box.next(t, len(step.want)); !slices.Equal(got, step.want) {
			t.Fatalf("%s:\ngot  %.2000q\nwant %.2000q", step.does, got, step.want)
		}
	}
	box.copies(t, url, 10_000)
	execute(t, w, `select core.emit_event('End', '{}')`)
	require.Equal(t, []string{`/all End CUSTOM  null -> {} null`}, box.next(t, 1), "nothing else came")
	code, _ := o.terminate(t)
	require.Zero(t, code)
}

// copies copies n rows into the table and expects one request for each.
func (i *inbox) copies(t *testing.T, url string, n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var want []string
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"orders"}, []string{"id", "status"}, pgx.CopyFromSlice(n, func(k int) ([]any, error) {
		want = append(want, fmt.Sprintf(`/all Order INSERT %[1]d null -> {"id":%[1]d,"note":null,"total":null,"status":"copied"} null`, 1000+k))
		return []any{int64(1000 + k), "copied"}, nil
	}))
	require.NoError(t, err)
	slices.Sort(want)
	require.True(t, slices.Equal(want, i.next(t, n)), "one request for each row that was copied")
}
