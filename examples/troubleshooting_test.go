package examples

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const within = 60 * time.Second

// the commands of docs/troubleshooting.md, each on one line, with what it prints: those that look, those that change
// something, and the one that runs the process.
var (
	looks = map[string]string{
		`observer --config config.toml --validate`:                 `config.toml is valid`,
		`observer --config config.toml --dry-run`:                  `ok +postgres +answers`,
		`curl -s http://127.0.0.1:7077/readyz`:                     `^\{"status":"leader"\}`,
		`curl -s http://127.0.0.1:7077/metrics`:                    `(?m)^fraiseql_observer_backlog_size 0$`,
		`observer status --config config.toml`:                     `leader`,
		`observer capture list --config config.toml`:               `orders +Order`,
		`observer dlq list --config config.toml`:                   `order-shipped`,
		`observer dlq show 1 --config config.toml`:                 `410`,
		`observer checkpoint list --config config.toml`:            `(?m)^observer `,
		`observer explain --config config.toml --event event.json`: `order-shipped +fires`,
		`psql "$DATABASE_URL" -c "SELECT object_type, modification_type, count(*), max(created_at) FROM core.tb_entity_change_log GROUP BY 1, 2;"`:  `Order +\| UPDATE +\| +3`,
		`psql "$DATABASE_URL" -c "SELECT * FROM tb_observer_checkpoint WHERE transport_name = 'observer';"`:                                         `\(1 row\)`,
		`psql "$DATABASE_URL" -c "SELECT observer, action, entity, not_before, attempts FROM core.tb_observer_retry ORDER BY not_before LIMIT 20;"`: `order-shipped \| notify \| Order .*503`,
		`redis-cli -u redis://localhost:6379 PING`:                        `^PONG\n$`,
		`redis-cli -u redis://localhost:6379 KEYS "event:*"`:              ``, // without dedup there is none
		`redis-cli -u redis://localhost:6379 KEYS "action_result:*"`:      ``,
		`redis-cli -u redis://localhost:6379 --scan --pattern "event:*"`:  ``,
		`redis-cli -u redis://localhost:6379 CONFIG GET maxmemory-policy`: `maxmemory-policy\nnoeviction`,
	}
	changes = map[string]string{
		`psql "$DATABASE_URL" -c "DELETE FROM tb_observer_checkpoint WHERE transport_name = 'observer';"`: `^DELETE 1\n$`,
		`observer checkpoint set observer --to now --config config.toml`:                                  `^checkpoint observer is set to now\n$`,
		`observer dlq retry 1 --config config.toml`:                                                       `^dead letter 1 is `,
	}
	// The commands of the original's page that have another name with us, or none in these topologies.
	originals = map[string]string{
		`psql "$DATABASE_URL" -c "SELECT * FROM tb_observer_checkpoint WHERE transport_name = 'pg_to_nats';"`: `\(0 rows\)`,
		`psql "$DATABASE_URL" -c "DELETE FROM tb_observer_checkpoint WHERE transport_name = 'pg_to_nats';"`:   `^DELETE 0\n$`,
	}
)

const runs = `RUST_LOG=info observer --config config.toml`

// printed are the commands of the page in its order: those for every topology, or those for NATS alone, which are its end.
func printed(t *testing.T, nats bool) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/troubleshooting.md")
	require.NoError(t, err)
	part, end, found := strings.Cut(string(text), "\n## NATS\n")
	require.True(t, found)
	if nats {
		part = end
	}
	for _, block := range fence.FindAllStringSubmatch(part, -1) {
		lines = append(lines, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return lines
}

// desk is where a person sits who looks for what is wrong: a directory with config.toml, and the programs on PATH.
type desk struct {
	dir, database, redis, admin string
	env                         []string
}

// newDesk has the configuration of an example, whose receiver is at url.
func newDesk(t *testing.T, example, url string) *desk {
	t.Helper()
	d := &desk{dir: t.TempDir(), database: testenv.Postgres(t), redis: strings.TrimSuffix(testenv.NewRedis(t).URL(), "/0")}
	checkout, err := built()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(filepath.Join(checkout, "observer"), filepath.Join(d.dir, "observer")))
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	config := strings.NewReplacer("http://localhost:9000", url, "redis://localhost:6379", d.redis).Replace(string(text))
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "config.toml"), []byte(config), 0o600))
	shown, err := os.ReadFile("order-shipped.json")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "event.json"), shown, 0o600))
	path := d.dir + ":" + filepath.Dir(testenv.Tool(t, "psql")) + ":" + os.Getenv("PATH")
	d.env = append(os.Environ(), "PATH="+path, "DATABASE_URL="+d.database)
	return d
}

// run types a command, with the addresses of this desk for those of the page.
func (d *desk) run(t *testing.T, command string) string {
	t.Helper()
	typed := strings.NewReplacer("redis://localhost:6379", d.redis, "127.0.0.1:7077", d.admin).Replace(command)
	cmd := shell(t.Context(), d.dir, typed)
	cmd.Env = d.env
	if d.admin != "" {
		cmd.Env = append(slices.Clone(d.env), "FRAISEQL_ADMIN_LISTEN="+d.admin)
	}
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", command, output)
	return string(output)
}

// start runs the process until the test ends, and returns its log line by line once it leads.
func (d *desk) start(t *testing.T) *transcript {
	t.Helper()
	return d.lead(t, runs)
}

func (d *desk) lead(t *testing.T, command string) *transcript {
	t.Helper()
	log := d.launch(t, command)
	log.find(t, `msg=leading`)
	d.admin = log.find(t, `admin address is open" address=(\S+)`)
	return log
}

// launch runs a command until the test ends.
func (d *desk) launch(t *testing.T, command string) *transcript {
	t.Helper()
	cmd := shell(context.Background(), d.dir, "exec env "+command)
	cmd.Env = append([]string{"FRAISEQL_ADMIN_LISTEN=127.0.0.1:0"}, d.env...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	log := &transcript{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		log.read(stderr)
	}()
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		<-read
		require.NoError(t, cmd.Wait(), log.String())
	})
	return log
}

// transcript is a log that is read while it is written.
type transcript struct {
	mu   sync.Mutex // guards what follows
	text strings.Builder
}

func (l *transcript) read(from io.Reader) {
	for scan := bufio.NewScanner(from); scan.Scan(); {
		l.mu.Lock()
		fmt.Fprintln(&l.text, scan.Text())
		l.mu.Unlock()
	}
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// find waits for a line, and returns the last group of the expression in it.
func (l *transcript) find(t *testing.T, expression string) string {
	t.Helper()
	want, found := regexp.MustCompile(expression), []string(nil)
	testenv.Eventually(t, within, func() error {
		if found = want.FindStringSubmatch(l.String()); found == nil {
			return fmt.Errorf("no %s in\n%s", expression, l)
		}
		return nil
	})
	return found[len(found)-1]
}

// receiver answers as the number in the body says, and tells what arrived.
func receiver(t *testing.T) (url string, arrived chan string) {
	t.Helper()
	arrived = make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what a test needs of it fails there
		switch {
		case strings.Contains(string(body), `"order": 2`):
			w.WriteHeader(http.StatusGone)
		case strings.Contains(string(body), `"order": 3`):
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			arrived <- string(body)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, arrived
}

func execute(t *testing.T, database string, statements ...string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(context.Background())) }()
	for _, s := range statements {
		_, err = db.Exec(t.Context(), s)
		require.NoError(t, err, s)
	}
}

func TestTheTroubleshootingCommandsWorkAsPrinted(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	d := newDesk(t, "01-postgresql-only.toml", url)
	execute(t, d.database, `create table orders (id bigint primary key, customer text, status text)`)
	d.run(t, "observer migrate --config config.toml")
	d.run(t, "observer capture add orders --entity Order --config config.toml")
	log := d.start(t)
	execute(t, d.database, `insert into orders select n, 'Ada', 'new' from generate_series(1, 3) n`, `update orders set status = 'shipped'`)
	require.Contains(t, <-arrived, `"order": 1`)
	testenv.Eventually(t, within, func() error {
		if dead := d.run(t, "observer dlq list --config config.toml"); !strings.Contains(dead, "order-shipped") {
			return fmt.Errorf("no dead letter: %s", dead)
		}
		return nil
	})
	for _, command := range printed(t, false) {
		says, known := looks[command]
		if !known {
			if says, known = changes[command]; !known {
				require.Equal(t, runs, command, "the page has a command that this test does not know")
				log.find(t, `msg=metrics backlog_size=`)
				continue
			}
		}
		require.Regexp(t, says, d.run(t, command), command)
		if strings.Contains(command, "DELETE") {
			require.Contains(t, <-arrived, `"order": 1`, "it is delivered again")
		}
	}
	for command, says := range originals {
		require.Regexp(t, says, d.run(t, command), command)
	}
}

// TestTheTopologyWithRedisRemembersAndSkips runs the second example: the keys are found by the commands of the page.
func TestTheTopologyWithRedisRemembersAndSkips(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	d := newDesk(t, "02-postgresql-redis.toml", url)
	execute(t, d.database, `create table orders (id bigint primary key, customer text, status text)`, `create table products (id bigint primary key, stock int)`)
	d.run(t, "observer migrate --config config.toml")
	d.run(t, "observer capture add orders   --entity Order   --config config.toml")
	d.run(t, "observer capture add products --entity Product --config config.toml")
	require.Regexp(t, `ok +redis +answers`, d.run(t, "observer --config config.toml --dry-run"))
	log := d.lead(t, strings.Replace(runs, "RUST_LOG=info", "RUST_LOG=debug", 1)) // figures every five seconds, not every thirty
	require.Regexp(t, `^\{"status":"leader"\}`, d.run(t, `curl -s http://127.0.0.1:7077/readyz`))

	execute(t, d.database, `insert into orders values (1, 'Ada', 'new')`, `update orders set status = 'shipped'`)
	require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived)
	execute(t, d.database, `insert into products values (7, 20)`, `update products set stock = 9`)
	require.JSONEq(t, `{"product": 7, "warning": "the stock is low"}`, <-arrived)
	cached := func() error {
		if keys := d.run(t, `redis-cli -u redis://localhost:6379 KEYS "action_result:*"`); strings.Count(keys, "action_result:") != 1 {
			return fmt.Errorf("keys of the cache: %s", keys)
		}
		return nil
	}
	testenv.Eventually(t, within, cached)
	// The second change is the same request, and is skipped; the order is another one.
	execute(t, d.database, `update products set stock = 8`, `insert into orders values (4, 'Eve', 'new')`, `update orders set status = 'shipped' where id = 4`)
	require.JSONEq(t, `{"order": 4, "customer": "Eve"}`, <-arrived)
	testenv.Eventually(t, within, func() error { // two orders, two products
		if keys := d.run(t, `redis-cli -u redis://localhost:6379 --scan --pattern "event:*"`); strings.Count(keys, "event:") != 4 {
			return fmt.Errorf("keys of dedup: %s", keys)
		}
		return nil
	})
	require.Equal(t, 4, strings.Count(d.run(t, `redis-cli -u redis://localhost:6379 KEYS "event:*"`), "event:"))
	require.NoError(t, cached())

	// All of it is read again, and nothing is sent: what follows is the first that arrives.
	d.run(t, `psql "$DATABASE_URL" -c "DELETE FROM tb_observer_checkpoint WHERE transport_name = 'observer';"`)
	execute(t, d.database, `insert into orders values (5, 'Flo', 'new')`, `update orders set status = 'shipped' where id = 5`)
	require.JSONEq(t, `{"order": 5, "customer": "Flo"}`, <-arrived)
	require.Regexp(t, `(?m)^fraiseql_observer_dedup_duplicates_total [1-9]`, d.run(t, `curl -s http://127.0.0.1:7077/metrics`))
	log.find(t, `msg=metrics .*cache_hit_rate=.*dedup_hit_rate=|msg=metrics .*dedup_hit_rate=.*cache_hit_rate=`)
	require.Empty(t, arrived)
}
