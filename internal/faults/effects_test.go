package faults

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// effect is another end than a webhook's: a configuration, and what arrived there so far, in order.
type effect struct {
	config string // tables before the observer, and at the end its action
	action string
	read   func(ctx context.Context) ([]request, error)
}

// answered is how long after its effect an action may still be running: its end has the answer to carry, and a mail its QUIT.
const answered = 100 * time.Millisecond

// effectOf is what an event did at a moment.
func effectOf(body string, at time.Time) request {
	fields := gjson.GetMany(body, "id", "entity_type", "entity_id", "data.rev", "data.tx", "data.rolled_back")
	return request{
		id: fields[0].String(), change: change{fields[1].String() + "/" + fields[2].String(), fields[3].Int()},
		tx: fields[4].String(), rolledBack: fields[5].Bool(), status: 200, at: at, replied: at.Add(answered),
	}
}

// inTable is a function that takes a moment and then inserts.
func inTable(t *testing.T, w *world) effect {
	t.Helper()
	execute(t, w, `create schema app; create table app.effects (n bigserial, event jsonb not null, at timestamptz not null);
		create function app.on_change(event jsonb) returns void language sql as 'select pg_sleep(0.005); insert into app.effects (event, at) values (event, clock_timestamp())';`)
	return effect{action: `type = "sql"` + "\n" + `function = "app.on_change"`, read: func(ctx context.Context) ([]request, error) {
		conn, err := pgx.Connect(ctx, w.url)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(ctx) }() // it only read
		rows, err := conn.Query(ctx, `select event::text, at from app.effects order by n`)
		if err != nil {
			return nil, err
		}
		var list []request
		var body string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&body, &at}, func() error {
			list = append(list, effectOf(body, at))
			return nil
		})
		return list, err
	}}
}

// inSubject is a JetStream stream.
func inSubject(t *testing.T, _ *world) effect {
	t.Helper()
	url, name := natsenv.JetStream(t), "EFFECTS"
	conn, err := natsgo.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{"effects"}, Duplicates: 100 * time.Millisecond})
	require.NoError(t, err)
	var list []request
	return effect{
		config: fmt.Sprintf("[transport.nats]\nurl = %q\n", url), action: "type = \"publish\"\nserver = \"nats\"\ntopic = \"effects\"",
		read: func(ctx context.Context) ([]request, error) {
			info, err := stream.Info(ctx)
			if err != nil {
				return nil, err
			}
			for seq := uint64(len(list)) + 1; seq <= info.State.LastSeq; seq++ {
				msg, err := stream.GetMsg(ctx, seq)
				if err != nil {
					return nil, err
				}
				list = append(list, effectOf(string(msg.Data), msg.Time))
			}
			return slices.Clone(list), nil
		},
	}
}

// inRedisStream is a Redis stream.
func inRedisStream(t *testing.T, _ *world) effect {
	t.Helper()
	url, stream := testenv.Redis(t), t.Name()
	options, err := goredis.ParseURL(url)
	require.NoError(t, err)
	client := goredis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return effect{
		config: fmt.Sprintf("[redis]\nurl = %q\n", url), action: fmt.Sprintf("type = \"publish\"\nserver = \"redis\"\ntopic = %q", stream),
		read: func(ctx context.Context) (list []request, err error) {
			entries, err := client.XRange(ctx, stream, "-", "+").Result()
			for _, e := range entries {
				millis, _, _ := strings.Cut(e.ID, "-")
				at, err := strconv.ParseInt(millis, 10, 64)
				if err != nil {
					return nil, err
				}
				list = append(list, effectOf(e.Values["payload"].(string), time.UnixMilli(at)))
			}
			return list, err
		},
	}
}

// inMailbox is a mail server that takes a moment for each mail.
func inMailbox(t *testing.T, _ *world) effect {
	t.Helper()
	box := &mailbox{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return box, nil }))
	server.Domain = "localhost"
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // a kill breaks connections
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.NoError(t, <-ended)
	})
	return effect{
		config: fmt.Sprintf("[smtp]\nhost = \"127.0.0.1\"\nport = %d\ntls = \"none\"\nfrom = \"shop@example.com\"\n", listener.Addr().(*net.TCPAddr).Port),
		action: "type = \"email\"\nto = \"ann@example.com\"\nsubject = \"{{ event.id }}\"\nbody_template = \"{{ event.entity_type }}/{{ event.entity_id }} {{ data.rev }} {{ data.tx }} {{ data.rolled_back }}\"",
		read:   func(context.Context) ([]request, error) { return box.all(), nil },
	}
}

type mailbox struct {
	mu   sync.Mutex // guards what follows
	list []request
}

func (b *mailbox) Mail(string, *smtp.MailOptions) error { return nil }
func (b *mailbox) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (b *mailbox) Reset()                               {}
func (b *mailbox) Logout() error                        { return nil }

var mailed = regexp.MustCompile(`(?s)\nSubject: (\S+)\r\n.*\n(\S+) (\d+) (\S+) (true|false)\r\n`)

func (b *mailbox) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	wait(context.Background(), 5*time.Millisecond)
	found := mailed.FindSubmatch(text)
	if found == nil {
		return fmt.Errorf("what mail is this? %s", text)
	}
	rev, err := strconv.ParseInt(string(found[3]), 10, 64)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.list = append(b.list, request{id: string(found[1]), change: change{string(found[2]), rev}, tx: string(found[4]), rolledBack: string(found[5]) == "true", status: 200, at: now, replied: now.Add(answered)})
	return err
}

func (b *mailbox) all() []request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

const effectsConfig = `
[transport]
transport = "postgres"
[transport.postgres]
url = %q
[transport.nats.jetstream]
max_deliver = 1000 # what runs at several kills is no poison here
[performance]
max_concurrency = %d
[admin]
listen = ""
[log]
level = "debug"
%s
[[observers]]
name = "all"
entity = "*"
[[observers.actions]]
%s
`

// TestEndsOfTheProcessWhileOtherActionsRun ends and kills the process while actions run that are no webhooks.
func TestEndsOfTheProcessWhileOtherActionsRun(t *testing.T) {
	scenario(t)
	for name, at := range map[string]func(*testing.T, *world) effect{"sql": inTable, "publish to NATS": inSubject, "publish to Redis": inRedisStream, "email": inMailbox} {
		t.Run(name, func(t *testing.T) {
			if name != "sql" {
				onlyLong(t)
			}
			scenario(t)
			w := newWorld(t, "")
			end := at(t, w)
			w.elsewhere = func() []request {
				var list []request
				testenv.Eventually(t, within, func() (err error) {
					list, err = end.read(context.WithoutCancel(t.Context()))
					return err
				})
				return list
			}
			config := filepath.Join(w.dir, "observer.toml")
			require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, effectsConfig, w.url, concurrency, end.config, end.action), 0o600))
			o := startObserver(t, config)
			o.leads(t)
			w.writers.pause, w.writers.late = pick(150*time.Millisecond, 40*time.Millisecond), 200*time.Millisecond
			startWriters(t, w.writers, t.Name())
			for range pick(1, 4) {
				w.has(t, 30)
				code, _ := o.terminate(t)
				require.Zero(t, code)
				require.NotContains(t, o.text(), "level=ERROR")
				o = startObserver(t, config)
			}
			w.has(t, 30)
			require.Zero(t, check(map[change]string{}, w.arrived(), nil, nil).duplicates, "after a clean end nothing comes again")
			for range pick(1, 4) {
				w.kill(o)
				execute(t, w, `update core.tb_observer_lease set expires_at = clock_timestamp()`)
				o = startObserver(t, config)
				w.has(t, 30)
			}
			v := w.finish(t, "SIGTERM, then kill -9, while "+name+" runs", o)
			require.LessOrEqual(t, v.duplicates, v.allowed)
		})
	}
}

// has waits until n more have arrived.
func (w *world) has(t *testing.T, n int) {
	t.Helper()
	target := len(w.arrived()) + n
	testenv.Eventually(t, within, func() error {
		if have := len(w.arrived()); have < target {
			return fmt.Errorf("%d of %d arrived", have, target)
		}
		return nil
	})
}
