package examples

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// cluster is a desk with a NATS server and the examples that need one.
type cluster struct {
	*desk

	js        jetstream.JetStream
	databases map[string]string // by the name that the README gives them
}

func newCluster(t *testing.T, receiver string) *cluster {
	t.Helper()
	const first, second = "03-nats-distributed.toml", "04-multi-database-bridge.toml"
	url := natsenv.JetStream(t)
	conn, err := natsgo.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	d := newDesk(t, first, receiver)
	require.NoError(t, os.Mkdir(filepath.Join(d.dir, "examples"), 0o700))
	for from, to := range map[string]string{first: filepath.Join("examples", first), second: filepath.Join("examples", second), filepath.Join(d.dir, "config.toml"): "config.toml"} {
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		config := strings.NewReplacer("http://localhost:9000", receiver, "redis://localhost:6379", d.redis, "nats://localhost:4222", url).Replace(string(text))
		require.NoError(t, os.WriteFile(filepath.Join(d.dir, to), []byte(config), 0o600))
	}
	return &cluster{d, js, map[string]string{"shop": d.database}}
}

var (
	exported = regexp.MustCompile(`^export (\w+)=(\S+)$`)
	admin    = regexp.MustCompile(`127\.0\.0\.1:70\d\d`)
)

// follow types a block of the README, but for its addresses and for what docker and go would do. It returns the logs of the
// processes that run then.
func (c *cluster) follow(t *testing.T, block string) (logs []*transcript) {
	t.Helper()
	for line := range strings.Lines(block) {
		line = admin.ReplaceAllLiteralString(strings.TrimSpace(line), "127.0.0.1:0")
		variable := exported.FindStringSubmatch(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, "docker "), strings.HasPrefix(line, "go build "):
		case variable != nil && variable[1] == "DATABASE_URL":
			url, known := c.databases[variable[2][strings.LastIndex(variable[2], "/")+1:]]
			require.True(t, known, line)
			c.env = append(c.env, "DATABASE_URL="+url)
		case variable != nil:
			c.env = append(c.env, variable[1]+"="+variable[2])
		case strings.Contains(line, " run "):
			logs = append(logs, c.launch(t, line))
		default:
			c.run(t, line)
		}
	}
	return logs
}

const table = `create table orders (id bigint primary key, customer text, status text)`

func ship(t *testing.T, database string, id int, customer string) {
	t.Helper()
	execute(t, database, fmt.Sprintf(`insert into orders values (%d, '%s', 'new')`, id, customer), fmt.Sprintf(`update orders set status = 'shipped' where id = %d`, id))
}

func TestTheTopologyWithNATSDeliversAsOneProcessAndAsSeveral(t *testing.T) {
	t.Parallel()
	blocks := commands(t, "Topologies")
	for name, block := range map[string]int{"one process": 0, "a bridge and two workers": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, arrived := receiver(t)
			c := newCluster(t, url)
			execute(t, c.database, table)
			run := strings.LastIndex(blocks[0], "\n")
			if block > 0 { // the last line of the first is the process that the second splits
				c.follow(t, blocks[0][:run])
			}
			logs := c.follow(t, blocks[block])
			bridge, workers := logs[0], logs[min(block, len(logs)-1):]
			bridge.find(t, `msg=leading`)
			for _, w := range workers {
				w.find(t, `msg=working stream=fraiseql_events`)
			}
			ship(t, c.database, 1, "Ada")
			require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived)
			if block > 0 {
				require.Len(t, workers, 2)
				require.NotContains(t, bridge.String(), "msg=working")
				for _, w := range workers {
					c.admin = w.find(t, `admin address is open" address=(\S+)`)
					require.Regexp(t, `^\{"status":"worker"\}`, c.run(t, `curl -s http://127.0.0.1:7077/readyz`))
				}
			}
		})
	}
}

func TestOneWorkerTakesWhatTheBridgesOfTwoDatabasesPublish(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	c := newCluster(t, url)
	c.databases["warehouse"] = testenv.Postgres(t)
	for _, database := range c.databases {
		execute(t, database, table)
	}
	logs := c.follow(t, commands(t, "Topologies")[2])
	require.Len(t, logs, 3)
	logs[0].find(t, `msg=leading listener=shop `)
	logs[1].find(t, `msg=leading listener=warehouse `)
	logs[2].find(t, `msg=working`)
	ship(t, c.databases["shop"], 1, "Ada")
	require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived)
	ship(t, c.databases["warehouse"], 1, "Bob")
	require.JSONEq(t, `{"order": 1, "customer": "Bob"}`, <-arrived)
}

// TestTheTroubleshootingCommandsForNATS runs those of the page that are for the database, and looks for what those of the nats
// program would ask for.
func TestTheTroubleshootingCommandsForNATS(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	c := newCluster(t, url)
	execute(t, c.database, table)
	c.run(t, "observer migrate --config config.toml")
	c.run(t, "observer capture add orders --entity Order --config config.toml")
	require.Regexp(t, `ok +stream +fraiseql_events is missing; run creates it`, c.run(t, "observer --config config.toml --dry-run"))
	c.env = append(c.env, "FRAISEQL_ENABLE_DEDUP=false") // it would hold back what is published again
	c.start(t).find(t, `msg=working`)
	ship(t, c.database, 1, "Ada")
	<-arrived
	ship(t, c.database, 2, "Bob") // a dead letter: see receiver
	says := map[string]string{
		`observer --config config.toml --dry-run`:                                                                 `ok +consumer +fraiseql_observer_worker: 0 events wait`,
		`curl -s http://127.0.0.1:7077/readyz`:                                                                    `^\{"status":"leader"\}`,
		`observer checkpoint list --config config.toml`:                                                           `(?m)^pg_to_nats `,
		`observer dlq list --config config.toml`:                                                                  `order-shipped`,
		`psql "$DATABASE_URL" -c "SELECT * FROM tb_observer_checkpoint WHERE transport_name = 'pg_to_nats';"`:     `\(1 row\)`,
		`psql "$DATABASE_URL" -c "SELECT * FROM tb_observer_checkpoint WHERE transport_name LIKE 'pg_to_nats%';"`: `\(2 rows\)`,
		`psql "$DATABASE_URL" -c "DELETE FROM tb_observer_checkpoint WHERE transport_name = 'pg_to_nats';"`:       `^DELETE 1\n$`,
	}
	testenv.Eventually(t, within, func() error { return c.settled(t) })
	c.forgetDuplicates(t)
	for _, command := range printed(t, true) {
		if words := strings.Fields(command); words[0] == "nats" {
			c.ask(t, words[1]+" "+words[2], words[3:])
			continue
		}
		require.Contains(t, says, command, "the page has a command that this test does not know")
		require.Regexp(t, says[command], c.run(t, command), command)
		if strings.Contains(command, "DELETE") {
			require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived, "it is published and delivered again")
		}
	}
}

// settled reports whether the stream is empty and the dead letter is there.
func (c *cluster) settled(t *testing.T) error {
	t.Helper()
	dead, err := c.js.Stream(t.Context(), "fraiseql_events_dead_letters")
	if err != nil {
		return err
	}
	events, err := c.js.Stream(t.Context(), "fraiseql_events")
	if err != nil {
		return err
	}
	if left, letters := events.CachedInfo().State.Msgs, dead.CachedInfo().State.Msgs; left > 0 || letters == 0 {
		return fmt.Errorf("%d events in the stream, %d dead letters", left, letters)
	}
	return nil
}

// forgetDuplicates is the passing of dedup_window_minutes.
func (c *cluster) forgetDuplicates(t *testing.T) {
	t.Helper()
	stream, err := c.js.Stream(t.Context(), "fraiseql_events")
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	require.Equal(t, 5*time.Minute, cfg.Duplicates)
	cfg.Duplicates = 100 * time.Millisecond
	_, err = c.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	id := 0
	testenv.Eventually(t, within, func() error { // publishing drops what is older
		id++
		_, err := c.js.Publish(t.Context(), "fraiseql.mutation.Nothing.CUSTOM", []byte(`{"entity_type": "Nothing", "data": {}}`), jetstream.WithMsgID(fmt.Sprint("probe-", id)))
		if err != nil {
			return err
		}
		ack, err := c.js.Publish(t.Context(), "fraiseql.mutation.Nothing.CUSTOM", []byte(`{"entity_type": "Nothing", "data": {}}`), jetstream.WithMsgID("probe-1"))
		if err == nil && ack.Duplicate {
			err = fmt.Errorf("publication %d is still known as a duplicate", id)
		}
		return err
	})
}

// ask asks the server for what a command of the nats program shows.
func (c *cluster) ask(t *testing.T, command string, names []string) {
	t.Helper()
	stream, err := c.js.Stream(t.Context(), names[0])
	require.NoError(t, err)
	switch command {
	case "stream info":
		require.Positive(t, stream.CachedInfo().State.LastSeq)
	case "consumer report":
		var consumers []string
		for name := range stream.ConsumerNames(t.Context()).Name() {
			consumers = append(consumers, name)
		}
		require.True(t, slices.Equal(consumers, []string{"fraiseql_observer_worker"}), consumers)
	case "consumer info":
		consumer, err := stream.Consumer(t.Context(), names[1])
		require.NoError(t, err)
		info := consumer.CachedInfo()
		require.Positive(t, info.Delivered.Stream)
		require.Equal(t, jetstream.AckExplicitPolicy, info.Config.AckPolicy)
		require.Equal(t, 30*time.Second, info.Config.AckWait)
		require.Positive(t, info.NumWaiting, "no worker asks for events")
	default:
		t.Fatalf("the page has a command that this test does not know: nats %s", command)
	}
}

func TestOneProcessCarriesItsOwnBus(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	d := newDesk(t, "05-embedded.toml", url)
	execute(t, d.database, table)
	d.run(t, "observer migrate --config config.toml")
	d.run(t, "observer capture add orders --entity Order --config config.toml")
	d.start(t)
	ship(t, d.database, 1, "Ada")
	require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived)
	require.DirExists(t, filepath.Join(d.dir, "observer-data"))
}

func TestCustomEventsComeThroughRedisStreams(t *testing.T) {
	t.Parallel()
	url, arrived := receiver(t)
	d := newDesk(t, "06-redis-streams.toml", url)
	d.launch(t, runs).find(t, `msg=working`)
	d.run(t, `observer emit --config config.toml --entity Order --id 1 --data '{"id": 1, "customer": "Ada", "status": "shipped"}'`)
	require.JSONEq(t, `{"order": 1, "customer": "Ada"}`, <-arrived)
}
