package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// ends are the real things that actions act on. Each keeps what it got.
type ends struct {
	http, mail *kept
	url        string // of the HTTP server
	smtpPort   int
	nats       jetstream.Consumer
	natsURL    string
	redis      *redis.Client
	redisURL   string
	prefix     string // of Redis keys
}

// kept is what arrived, in order.
type kept struct {
	mu  sync.Mutex // guards what follows
	got []string
}

func (k *kept) add(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, text)
}

// find waits for something with this text.
func (k *kept) find(t *testing.T, text string) (found string) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, found = range k.got {
			if strings.Contains(found, text) {
				return nil
			}
		}
		return fmt.Errorf("of %d that arrived none holds %q", len(k.got), text)
	})
	return found
}

// none reports whether nothing with this text arrived.
func (k *kept) none(text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, got := range k.got {
		if strings.Contains(got, text) {
			return false
		}
	}
	return true
}

// newEnds starts everything. The HTTP server answers with the status that a path ends with, 200 otherwise, and never on
// /hang; the mail server refuses recipients whose address begins with a code.
func newEnds(t *testing.T) *ends {
	t.Helper()
	e := &ends{http: &kept{}, mail: &kept{}, redisURL: testenv.Redis(t), natsURL: natsenv.JetStream(t), prefix: t.Name() + ":"}
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is looked at
		e.http.add(r.URL.Path + " " + string(body))
		switch r.URL.Path {
		case "/hang":
			<-stop
		case "/hangs-in-body":
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush() // it hangs also where this fails
			<-stop
		case "/flood":
			flood(w)
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			flood(w)
		case "/429":
			w.Header().Set("Retry-After", "1800")
		}
		var status int
		if _, err := fmt.Sscanf(filepath.Base(r.URL.Path), "%d", &status); err == nil {
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stop) })
	e.url = server.URL
	e.startMail(t)
	e.startStreams(t)
	return e
}

// flood answers 500 with ten gigabytes, or as many as are taken.
func flood(w http.ResponseWriter) {
	w.WriteHeader(http.StatusInternalServerError)
	part := make([]byte, 1<<20)
	for range 10 << 10 {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

func (e *ends) startStreams(t *testing.T) {
	t.Helper()
	conn, err := nats.Connect(e.natsURL)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SHOP", Subjects: []string{"shop.>"}})
	require.NoError(t, err)
	e.nats, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Hour})
	require.NoError(t, err)
	options, err := redis.ParseURL(e.redisURL)
	require.NoError(t, err)
	e.redis = redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, e.redis.Close()) })
}

func (e *ends) startMail(t *testing.T) {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{kept: e.mail}, nil }))
	server.Domain = "localhost"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address, ok := listener.Addr().(*net.TCPAddr)
	require.True(t, ok)
	e.smtpPort = address.Port
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.NoError(t, <-ended)
	})
}

// session receives mail.
type session struct {
	kept *kept
	to   []string
}

func (s *session) Mail(string, *smtp.MailOptions) error { return nil }
func (s *session) Reset()                               { s.to = nil }
func (s *session) Logout() error                        { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	var code int
	if _, err := fmt.Sscanf(to, "%d@", &code); err == nil {
		return &smtp.SMTPError{Code: code, Message: "not this one"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.kept.add(strings.Join(s.to, ",") + "\n" + string(text))
	return err
}

const endsConfig = `
[transport]
transport = %q
[transport.postgres]
url = %q
[transport.nats]
url = %q
[redis]
url = %q
[smtp]
host = "127.0.0.1"
port = %d
tls = "none"
from = "Shop <shop@example.com>"
[admin]
listen = ""
`

func (e *ends) config(t *testing.T, transport, url, observers string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "observer.toml")
	text := fmt.Sprintf(endsConfig, transport, url, e.natsURL, e.redisURL, e.smtpPort) + observers
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// everyAction has %[1]s for the HTTP server, %[2]s for the prefix of keys and %[3]s for the database of the function.
const everyAction = `
[[observers]]
name = "every"
entity = "Order"
event_type = "INSERT"
[[observers.actions]]
type = "webhook"
url = "%[1]s/webhook"
[[observers.actions]]
type = "slack"
webhook_url = "%[1]s/slack"
channel = "#orders"
message_template = "*{{ data.id }}* {{ data.note }}{{ if data.id > 1000 }} (large){{ end }}"
[[observers.actions]]
type = "email"
to_template = "{{ data.email }}"
subject = "order {{ data.id }}: {{ data.note }}"
body_template = "order {{ data.id }}\nnote: {{ data.note }}\n"
html_template = "<p>order {{ data.id }}</p><p>{{ data.note }}</p>"
[[observers.actions]]
type = "sql"
function = "app.on_order"
%[3]s
[[observers.actions]]
type = "publish"
name = "to-nats"
server = "nats"
topic = "shop.orders"
[[observers.actions]]
type = "publish"
name = "to-redis"
server = "redis"
topic = "%[2]sorders"
body_template = '{"order": {{ data.id }}, "note": {{ data.note }}, "text": "<{{ data.note }}>"}'
[[observers.actions]]
type = "cache"
key_pattern = "%[2]s{{ data.note }}:*"
[[observers.actions]]
type = "log"
message_template = "note {{ data.note }}"
`

const onOrder = `
	create schema app;
	create table app.seen (event jsonb not null);
	create function app.on_order(event jsonb) returns void language sql as 'insert into app.seen values (event)';`

// note is what no action may take for anything but text.
const note = "{{ data.secret }} \"quoted\" 'single' <!channel> <script>alert(1)</script>\r\nBcc: eve@example.com\r\n\r\n*?[a-z]\\ é𝄞 '); drop table app.seen; --"

// TestACommittedRowReachesEveryEnd runs every action for one row, whose text tries to be more than text.
func TestACommittedRowReachesEveryEnd(t *testing.T) {
	scenario(t)
	url, e := testenv.Postgres(t), newEnds(t)
	w := &world{url: url}
	execute(t, w, onOrder+`create table orders (id bigint primary key, email text, note text)`)
	config := e.config(t, "postgres", url, fmt.Sprintf(everyAction, e.url, e.prefix, ""))
	for _, args := range [][]string{{"migrate"}, {"capture", "add", "orders", "--entity", "Order"}, {"run", "--dry-run"}} {
		stdout, stderr, code := call(t, config, args...)
		require.Zero(t, code, stdout+stderr)
	}
	e.fillCache(t, note)
	o := startObserver(t, config)
	o.leads(t)
	execute(t, w, `insert into orders values (9007199254740993, 'ann@example.com', `+quoteLiteral(note)+`)`)
	e.check(t, note)
	testenv.Eventually(t, within, func() error {
		_, err := queryURL[string](t.Context(), url, `select event -> 'data' ->> 'note' from app.seen`)
		return err
	})
	require.Equal(t, note, query[string](t, w, `select event -> 'data' ->> 'note' from app.seen`))
	require.Equal(t, "9007199254740993", query[string](t, w, `select event -> 'data' ->> 'id' from app.seen`))
	o.awaits(t, `note {{ data.secret }}`)
	code, _ := o.terminate(t)
	require.Zero(t, code)
	require.Zero(t, query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`))
	require.Zero(t, query[int64](t, w, `select count(*) from core.tb_observer_retry`))
}

// TestAnyTextReachesEveryEnd is the same for text that no jsonb column can hold: NUL and half of a surrogate pair.
func TestAnyTextReachesEveryEnd(t *testing.T) {
	url, e := testenv.Postgres(t), newEnds(t)
	w := &world{url: url}
	execute(t, w, onOrder)
	t.Setenv("ENDS_DATABASE", url)
	config := e.config(t, "in_memory", "", fmt.Sprintf(everyAction, e.url, e.prefix, `url_env = "ENDS_DATABASE"`))
	text, err := json.Marshal(note)
	require.NoError(t, err)
	odd := strings.TrimSuffix(string(text), `"`) + ` \u0000 \ud800"`
	events := filepath.Join(t.TempDir(), "events.ndjson")
	line := `{"entity_type": "Order", "event_type": "INSERT", "data": {"id": 9007199254740993, "email": "ann@example.com", "note": ` + odd + `}}`
	require.NoError(t, os.WriteFile(events, []byte(line), 0o600))
	whole := note + " \x00 \ufffd"
	e.fillCache(t, whole)
	stdout, stderr, code := call(t, config, "run", "--input", events)
	require.Zero(t, code, stdout+stderr)
	require.Contains(t, stdout, "1 events, 1 matched, 8 delivered, 0 dead letters")
	e.check(t, whole)
	require.Equal(t, note+" \ufffd \ufffd", query[string](t, w, `select event -> 'data' ->> 'note' from app.seen`))
}

func quoteLiteral(s string) string {
	return ` E'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\r", `\r`, "\n", `\n`).Replace(s) + `'`
}

// fillCache sets keys that the cache action must delete, and others that it must not.
func (e *ends) fillCache(t *testing.T, text string) {
	t.Helper()
	for _, key := range []string{text + ":1", text + ":two", "other:1", "x:1"} {
		require.NoError(t, e.redis.Set(t.Context(), e.prefix+key, "1", 0).Err())
	}
}

// check looks at what arrived for the order with this note.
func (e *ends) check(t *testing.T, text string) {
	t.Helper()
	const id = "9007199254740993"
	webhook := strings.TrimPrefix(e.http.find(t, "/webhook "), "/webhook ")
	require.Equal(t, id, gjson.Get(webhook, "data.id").Raw)
	require.Equal(t, text, gjson.Get(webhook, "data.note").String())

	slack := strings.TrimPrefix(e.http.find(t, "/slack "), "/slack ")
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	require.Equal(t, "*"+id+"* "+escaped+" (large)", gjson.Get(slack, "text").String())
	require.Equal(t, "#orders", gjson.Get(slack, "channel").String())

	to, raw, _ := strings.Cut(e.mail.find(t, "\n"), "\n")
	require.Equal(t, "ann@example.com", to, "nobody else")
	message, err := mail.ReadMessage(strings.NewReader(raw))
	require.NoError(t, err)
	require.Empty(t, message.Header.Get("Bcc"))
	require.Contains(t, message.Header.Get("Message-ID"), "_every_email-1@example.com>")

	batch, err := e.nats.Fetch(1, jetstream.FetchMaxWait(within))
	require.NoError(t, err)
	published, ok := <-batch.Messages()
	require.True(t, ok, "nothing was published")
	require.Equal(t, id, gjson.GetBytes(published.Data(), "data.id").Raw)
	require.Equal(t, text, gjson.GetBytes(published.Data(), "data.note").String())

	testenv.Eventually(t, within, func() error {
		keys, err := e.redis.Keys(t.Context(), "*").Result()
		if err != nil {
			return err
		}
		for _, key := range keys {
			if strings.HasPrefix(key, e.prefix+text) {
				return fmt.Errorf("the key %q is still there", key)
			}
		}
		return nil
	})
	require.EqualValues(t, 2, e.redis.Exists(t.Context(), e.prefix+"other:1", e.prefix+"x:1").Val(), "wildcards in a row mean themselves")

	var entries []redis.XMessage
	testenv.Eventually(t, within, func() (err error) {
		if entries, err = e.redis.XRange(t.Context(), e.prefix+"orders", "-", "+").Result(); err == nil && len(entries) == 0 {
			err = errors.New("no entry in the stream")
		}
		return err
	})
	require.Len(t, entries, 1)
	payload, ok := entries[0].Values["payload"].(string)
	require.True(t, ok)
	require.Equal(t, id, gjson.Get(payload, "order").Raw)
	require.Equal(t, text, gjson.Get(payload, "note").String())
	require.Equal(t, "<"+text+">", gjson.Get(payload, "text").String())
}

// failures are actions that fail, each in its way: what becomes of the delivery, and the class of the failure.
var failures = map[string]struct {
	action string // %[1]s is the HTTP server
	class  string
	dead   bool
}{
	"webhook-refused":       {`type = "webhook"` + "\n" + `url = "http://127.0.0.1:1/"`, "refused", false},
	"webhook-hangs":         {`type = "webhook"` + "\n" + `url = "%[1]s/hang"` + "\n" + `timeout_ms = 300`, "timeout", false},
	"webhook-hangs-in-body": {`type = "webhook"` + "\n" + `url = "%[1]s/hangs-in-body"`, "http_503", false},
	"webhook-flood":         {`type = "webhook"` + "\n" + `url = "%[1]s/flood"`, "http_500", false},
	"webhook-gzip":          {`type = "webhook"` + "\n" + `url = "%[1]s/bomb"`, "http_500", false},
	"webhook-certificate":   {`type = "webhook"` + "\n" + `url = "%[3]s/"`, "tls", false},
	"webhook-400":           {`type = "webhook"` + "\n" + `url = "%[1]s/400"`, "http_400", true},
	"webhook-404":           {`type = "webhook"` + "\n" + `url = "%[1]s/404"`, "http_404", false},
	"webhook-429":           {`type = "webhook"` + "\n" + `url = "%[1]s/429"`, "http_429", false},
	"webhook-503":           {`type = "webhook"` + "\n" + `url = "%[1]s/503"`, "http_503", false},
	"webhook-redirect":      {`type = "webhook"` + "\n" + `url = "%[1]s/302"`, "http_302", true},
	"webhook-metadata":      {`type = "webhook"` + "\n" + `url = "http://metadata.example/"`, "dns", false},
	"webhook-no-tls":        {`type = "webhook"` + "\n" + `url = "https://%[2]s/"`, "tls", false},
	"webhook-missing-field": {`type = "webhook"` + "\n" + `url = "%[1]s/x"` + "\n" + `body_template = '{"a": {{ data.nothing }}}'`, "template", true},
	"slack-404":             {`type = "slack"` + "\n" + `webhook_url = "%[1]s/404"` + "\n" + `message_template = "x"`, "http_404", false},
	"slack-403":             {`type = "slack"` + "\n" + `webhook_url = "%[1]s/403"` + "\n" + `message_template = "x"`, "http_403", true},
	"email-451":             {`type = "email"` + "\n" + `to = "451@example.com"` + "\n" + `subject = "x"` + "\n" + `body_template = "x"`, "smtp_451", false},
	"email-550":             {`type = "email"` + "\n" + `to = "550@example.com"` + "\n" + `subject = "x"` + "\n" + `body_template = "x"`, "smtp_550", true},
	"email-two-addresses":   {`type = "email"` + "\n" + `to_template = "{{ data.note }}"` + "\n" + `subject = "x"` + "\n" + `body_template = "x"`, "address", true},
	"sql-no-function":       {`type = "sql"` + "\n" + `function = "app.nothing"`, "sqlstate_42883", true},
	"sql-raises":            {`type = "sql"` + "\n" + `function = "app.raises"`, "sqlstate_P0001", false},
	"sql-breaks-a-rule":     {`type = "sql"` + "\n" + `function = "app.violates"`, "sqlstate_23514", true},
	"publish-no-stream":     {`type = "publish"` + "\n" + `server = "nats"` + "\n" + `topic = "nobody.listens"`, "no_stream", false},
	"cache-missing-field":   {`type = "cache"` + "\n" + `key_pattern = "a:{{ data.nothing }}"`, "template", true},
	"log-missing-field":     {`type = "log"` + "\n" + `message_template = "{{ data.nothing }}"`, "template", true},
}

// peak is the most memory that the process has had, in MiB.
func (o *observer) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.cmd.Process.Pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "VmHWM:")
	require.True(t, found)
	var kib int
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	t.Logf("at most %d MiB", kib>>10)
	return kib >> 10
}

// TestServersThatAreAwayAreTriedAgain commits a row while no server of any action answers.
func TestServersThatAreAwayAreTriedAgain(t *testing.T) {
	t.Setenv("ENDS_DATABASE", "postgres://nobody@127.0.0.1:1/nothing")
	url := testenv.Postgres(t)
	w := &world{url: url}
	e := &ends{url: "http://127.0.0.1:1", natsURL: "nats://127.0.0.1:1", redisURL: "redis://127.0.0.1:1", smtpPort: 1, prefix: "away:"}
	config := e.config(t, "postgres", url, fmt.Sprintf(everyAction, e.url, e.prefix, `url_env = "ENDS_DATABASE"`)+"[observers.retry]\ninitial_delay_ms = 3600000\n")
	_, stderr, code := call(t, config, "migrate")
	require.Zero(t, code, stderr)
	o := startObserver(t, config)
	o.leads(t)
	execute(t, w, `insert into core.tb_entity_change_log (object_type, modification_type, object_data) values ('Order', 'INSERT', '{"id": 1, "email": "ann@example.com", "note": "x"}')`)
	o.awaits(t, `msg="note x"`)
	testenv.Eventually(t, within, func() error {
		parked, err := queryURL[string](t.Context(), url, `select coalesce(string_agg(action || ' ' || (attempts -> -1 ->> 'class'), ', ' order by action), '') from core.tb_observer_retry`)
		if want := "cache-1 refused, email-1 refused, slack-1 refused, sql-1 refused, to-nats refused, to-redis refused, webhook-1 refused"; err == nil && parked != want {
			err = fmt.Errorf("parked are %s", parked)
		}
		return err
	})
	require.Zero(t, query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`))
	code, _ = o.terminate(t)
	require.Zero(t, code)
}

// TestEachFailureEndsAsItShould lets every action fail in every way for one row: what may succeed later is parked, the rest
// becomes a dead letter, each with its class, and the one action that works is not held up.
func TestEachFailureEndsAsItShould(t *testing.T) {
	scenario(t)
	url, e := testenv.Postgres(t), newEnds(t)
	w := &world{url: url}
	execute(t, w, onOrder+`
		create function app.raises(event jsonb) returns void language plpgsql as $$ begin raise exception 'not today'; end $$;
		create table app.small (n integer check (n < 5));
		create function app.violates(event jsonb) returns void language sql as 'insert into app.small values (7)';`)
	unknown := httptest.NewUnstartedServer(http.NotFoundHandler()) // its certificate is nobody's
	unknown.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	unknown.StartTLS()
	t.Cleanup(unknown.Close)
	var observers strings.Builder
	for name, f := range failures {
		action := strings.NewReplacer("%[1]s", e.url, "%[2]s", strings.TrimPrefix(e.url, "http://"), "%[3]s", unknown.URL).Replace(f.action)
		fmt.Fprintf(&observers, "[[observers]]\nname = %q\nentity = \"*\"\n[[observers.actions]]\nname = \"it\"\n%s\n[observers.retry]\ninitial_delay_ms = 3600000\n", name, action)
	}
	fmt.Fprintf(&observers, "[[observers]]\nname = \"works\"\nentity = \"*\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"%s/works\"\n", e.url)
	config := e.config(t, "postgres", url, observers.String())
	_, stderr, code := call(t, config, "migrate")
	require.Zero(t, code, stderr)
	o := startObserver(t, config)
	o.leads(t)
	begun := time.Now()
	execute(t, w, `select core.emit_event('Order', '{"note": "ann@example.com, bob@example.com"}', '1')`)
	e.http.find(t, "/works ")
	t.Logf("the one that works arrived after %s", time.Since(begun))
	testenv.Eventually(t, within, func() error {
		n, err := queryURL[int](t.Context(), url, `select (select count(*) from core.tb_observer_retry) + (select count(*) from core.tb_observer_dead_letter)`)
		if err == nil && n < len(failures) {
			err = fmt.Errorf("%d of %d have failed", n, len(failures))
		}
		return err
	})
	for name, f := range failures {
		table := "core.tb_observer_retry"
		if f.dead {
			table = "core.tb_observer_dead_letter"
		}
		class := query[string](t, w, `select coalesce((select attempts -> -1 ->> 'class' from `+table+` where observer = $1), 'not in `+table+`')`, name)
		require.Equal(t, f.class, class, name)
	}
	require.True(t, e.mail.none("\n"), "no mail was sent")
	wait := query[float64](t, w, `select extract(epoch from not_before - (attempts -> -1 ->> 'at')::timestamptz) from core.tb_observer_retry where observer = 'webhook-429'`)
	require.GreaterOrEqual(t, wait, 1799.0, "Retry-After counts")
	require.Less(t, o.peak(t), 400, "MiB, with what the race detector takes: gigabytes were offered")
	code, _ = o.terminate(t)
	require.Zero(t, code)
}
