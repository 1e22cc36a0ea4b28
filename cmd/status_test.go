package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline"
)

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// silentAddress returns an address that nobody else gets until the test ends, and on which nobody listens.
func silentAddress(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(socket)) })
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	address, ok := name.(*syscall.SockaddrInet4)
	require.True(t, ok)
	return fmt.Sprintf("127.0.0.1:%d", address.Port)
}

// process runs the program with a configuration, and an admin address of its own, until the test ends or end is called.
func process(t *testing.T, text string) (cfg string, end func()) {
	t.Helper()
	cfg = file(t, "observer.toml", text+fmt.Sprintf("[admin]\nlisten = %q\n", freeAddress(t)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"run", "--config", cfg}, strings.NewReader(""), io.Discard, io.Discard)
	}()
	end = func() {
		cancel()
		require.Zero(t, <-ended)
		ended <- 0
	}
	t.Cleanup(end)
	return cfg, end
}

// statusBecomes waits until the status is as wanted.
func statusBecomes(t *testing.T, cfg string, want func(*pipeline.Status) bool) pipeline.Status {
	t.Helper()
	var s pipeline.Status
	testenv.Eventually(t, 30*time.Second, func() error {
		s = pipeline.Status{}
		r := observer(t, "", "status", "--config", cfg, "--format", "json")
		if err := json.Unmarshal([]byte(r.out), &s); err != nil {
			return fmt.Errorf("%w: %s", err, r.err)
		}
		if !want(&s) {
			return fmt.Errorf("status is %s", r.out)
		}
		return nil
	})
	return s
}

// stateIs wants the roles of a process that is ready to be in a state.
func stateIs(states ...string) func(*pipeline.Status) bool {
	return func(s *pipeline.Status) bool {
		for i, r := range s.Roles {
			if r.State != states[i] {
				return false
			}
		}
		return s.Ready && len(s.Roles) == len(states)
	}
}

// owns reports whether a worker has n of five partitions, and knows whose the others are.
func owns(s *pipeline.Status, n int) bool {
	if s.Consumer == nil || s.Consumer.Partitions == nil {
		return false
	}
	p := s.Consumer.Partitions
	return len(p.Owned) == n && len(slices.Concat(slices.Collect(maps.Values(p.Owners))...)) == 5
}

func statusOf(t *testing.T, cfg string) pipeline.Status {
	t.Helper()
	return statusBecomes(t, cfg, func(s *pipeline.Status) bool { return s.Delivered != nil })
}

const statusObservers = `
[[observers]]
name = "shipped"
entity = "Order"
event_type = "CUSTOM"
condition = "data.id > ` + "`1`" + `"
[[observers.actions]]
type = "webhook"
name = "notify"
url = %q
[[observers]]
name = "off"
entity = "Order"
enabled = false
[[observers.actions]]
type = "log"
message_template = "x"
`

func TestTheStatusOfALeaderAndItsStandby(t *testing.T) {
	t.Parallel()
	h := &hook{}
	h.code.Store(http.StatusGone)
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	url := testenv.Postgres(t)
	text := fmt.Sprintf("[transport.postgres]\nurl = %q\nstart_from = \"beginning\"\n[performance]\nenable_dedup = true\n", url) + fmt.Sprintf(statusObservers, receiver.URL)
	leader, _ := process(t, text)
	statusBecomes(t, leader, stateIs("leader"))
	standby, _ := process(t, text)
	second := statusBecomes(t, standby, stateIs("standby"))
	require.Equal(t, "standby", second.Status)
	require.Equal(t, []pipeline.Role{{Role: "listener", Name: "observer", State: "standby"}}, second.Roles)
	require.Nil(t, second.Source, "only the leader measures")
	require.Nil(t, second.Parked)
	require.Nil(t, second.Bridge)
	require.Nil(t, second.Observers[0].Matched)

	for id := range 3 {
		succeeds(t, "emit", "--entity", "Order", "--data", fmt.Sprintf(`{"id": %d}`, id), "--config", leader)
	}
	first := statusBecomes(t, leader, func(s *pipeline.Status) bool {
		return s.DeadLetters != nil && s.DeadLetters.N == 1 && s.Source.Backlog == 0
	})
	require.True(t, first.Ready)
	require.Equal(t, "postgres", first.Transport)
	require.Equal(t, []pipeline.Role{{Role: "listener", Name: "observer", State: "leader"}}, first.Roles)
	require.Equal(t, "change_log", first.Source.From)
	require.Nil(t, first.Consumer)
	require.Zero(t, first.Parked.N)
	require.Zero(t, *first.Delivered)
	require.EqualValues(t, 1, *first.Observers[0].Matched)
	require.EqualValues(t, 2, *first.Observers[0].NotMatched)
	require.Zero(t, *first.Observers[0].ConditionErrors)
	require.Equal(t, pipeline.ObserverStatus{Name: "off", Entity: "Order"}, first.Observers[1])
	require.Equal(t, []pipeline.EndpointStatus{{Name: receiver.URL, Breaker: "closed"}}, first.Endpoints)
	require.EqualValues(t, 1, first.Dedup.Checks)
	require.Nil(t, first.Cache, "it is turned off")

	require.Regexp(t, `(?m)\Astatus        leader, ready
process       observer \S+, transport postgres, up \d+s
listener      observer: leader
backlog       0 in the change log
parked        0
dead letters  1.*
delivered     0 since the start
dedup         1 checks, 0 duplicates \(0%\), 0 errors

OBSERVER  ENTITY  EVENT   ENABLED  MATCHED  NOT MATCHED  CONDITION ERRORS
shipped   Order   CUSTOM  yes      1        2            0
off       Order   any     no       -        -            -

ENDPOINT +BREAKER
http://127.0.0.1:\d+  closed
\z`, succeeds(t, "status", "--config", leader))
}

func TestTheStatusOfABridgeAndAWorkerInOneProcess(t *testing.T) {
	t.Parallel()
	h := &hook{}
	h.code.Store(http.StatusOK)
	release := h.hold()
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	text := fmt.Sprintf("[transport]\ntransport = \"nats\"\nrun_bridge = true\n[transport.nats]\nurl = %q\n[transport.postgres]\nurl = %q\nstart_from = \"beginning\"\n",
		natsenv.JetStream(t), testenv.Postgres(t)) + fmt.Sprintf(statusObservers, receiver.URL)
	cfg, _ := process(t, text)
	idle := statusBecomes(t, cfg, stateIs("leader", "working"))
	require.Equal(t, []pipeline.Role{{Role: "bridge", Name: "pg_to_nats", State: "leader"}, {Role: "worker", Name: "fraiseql_observer_worker", State: "working"}}, idle.Roles)

	dsn := configFor(t, strings.Split(strings.Split(text, "[transport.postgres]\nurl = \"")[1], `"`)[0])
	for range 2 {
		succeeds(t, "emit", "--entity", "Order", "--data", `{"id": 7}`, "--config", dsn)
	}
	busy := statusBecomes(t, cfg, func(s *pipeline.Status) bool {
		return s.Source != nil && s.Source.Backlog == 2 && s.Consumer.AckPending == 2 && s.Bridge.PublishedSequence != nil && *s.Bridge.PublishedSequence == 2 &&
			s.Bridge.ChangeLog.Backlog == 0
	})
	require.Equal(t, "stream", busy.Source.From)
	require.Positive(t, busy.Source.OldestAgeSeconds)
	require.Equal(t, pipeline.ConsumerStatus{Stream: "fraiseql_events", Consumer: "fraiseql_observer_worker", AckPending: 2}, *busy.Consumer)
	require.Zero(t, *busy.Bridge.ConfirmedSequence)
	require.Equal(t, "leader", busy.Bridge.State)

	release()
	done := statusBecomes(t, cfg, func(s *pipeline.Status) bool {
		return s.Source.Backlog == 0 && *s.Delivered == 2 && *s.Bridge.ConfirmedSequence == 2
	})
	require.Zero(t, done.Consumer.AckPending)
	require.Regexp(t, `(?m)^bridge        pg_to_nats: leader
worker        fraiseql_observer_worker: working
to publish    0 in the change log
stream        fraiseql_events: published up to 2, confirmed up to 2
backlog       0 in the stream
consumer      fraiseql_observer_worker of stream fraiseql_events: 0 pending, 0 handed out, over all its workers
parked        0$`, succeeds(t, "status", "--config", cfg))
}

// TestTheStatusOfWorkersThatSharePartitions emits events into partitions, and asks both workers what they have of them.
func TestTheStatusOfWorkersThatSharePartitions(t *testing.T) {
	t.Parallel()
	h := &hook{}
	h.code.Store(http.StatusOK)
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	text := fmt.Sprintf("[transport]\ntransport = \"nats\"\n[transport.nats]\nurl = %q\n[transport.nats.jetstream]\npartitions = 5\n", natsenv.JetStream(t)) +
		fmt.Sprintf(statusObservers, receiver.URL)
	first, _ := process(t, text)
	statusBecomes(t, first, func(s *pipeline.Status) bool { return owns(s, 5) })
	second, end := process(t, text)
	a := statusBecomes(t, first, func(s *pipeline.Status) bool { return owns(s, 3) })
	b := statusBecomes(t, second, func(s *pipeline.Status) bool { return owns(s, 2) })
	require.Equal(t, a.Consumer.Partitions.Owners, b.Consumer.Partitions.Owners)
	require.ElementsMatch(t, []int{0, 1, 2, 3, 4}, slices.Concat(a.Consumer.Partitions.Owned, b.Consumer.Partitions.Owned))
	require.Regexp(t, `(?m)^partitions    2 with this worker, 2 workers in all$`, succeeds(t, "status", "--config", second))

	var emitted strings.Builder
	for id := range 20 {
		fmt.Fprintf(&emitted, "{\"entity_type\": \"Order\", \"entity_id\": \"%d\", \"data\": {\"id\": 7}}\n", id)
	}
	require.Zero(t, observer(t, emitted.String(), "emit", "--data", "-", "--config", first).code)
	testenv.Eventually(t, 30*time.Second, func() error {
		if n := *statusOf(t, first).Delivered + *statusOf(t, second).Delivered; n < 20 {
			return fmt.Errorf("%d of 20 delivered", n)
		}
		return nil
	})
	require.Positive(t, *statusOf(t, second).Delivered)
	end()
	statusBecomes(t, first, func(s *pipeline.Status) bool { return owns(s, 5) && s.Source.Backlog == 0 })
}

func TestAProcessThatIsNotReadyExitsWithOne(t *testing.T) {
	t.Parallel()
	cfg, _ := process(t, fmt.Sprintf("[transport.postgres]\nurl = \"postgres://%s/app\"\n", silentAddress(t))+fmt.Sprintf(statusObservers, "http://127.0.0.1:1"))
	statusBecomes(t, cfg, func(s *pipeline.Status) bool {
		for _, r := range s.Reasons {
			if r.Check == "postgres" && strings.Contains(r.Error, "refused") {
				return !s.Ready
			}
		}
		return false
	})
	r := observer(t, "", "status", "--config", cfg)
	require.Equal(t, exitRuntime, r.code)
	require.Regexp(t, `(?m)\Astatus +starting, NOT READY\n +postgres: .*refused.*\(since .*Z\): check that the server runs.*\n`, r.out)
	require.Regexp(t, `^error: the process is not ready: postgres: .*refused`, r.err)
}

func TestOldFiguresAreShownAsOld(t *testing.T) {
	t.Parallel()
	const answer = `{"transport": "postgres", "ready": true, "roles": [{"role": "listener"}], "started_at": "2026-01-31T12:00:00Z", "uptime_seconds": 3600,
		"measured_at": "2026-01-31T12:%s:00Z", "source": {"from": "change_log", "backlog": 7, "oldest_age_seconds": 90},
		"dead_letters": {"n": 2, "oldest_age_seconds": 7200}, "endpoints": [{"name": "http://x", "breaker": "open"}]}`
	old := succeeds(t, "status", "--config", statusServer(t, fmt.Sprintf(answer, "50")))
	require.Regexp(t, `(?m)^measured      10m0s ago: the servers have not answered since
backlog       7 \(oldest 1m30s\) in the change log
dead letters  2 \(oldest 2h0m0s\)

ENDPOINT  BREAKER
http://x  open$`, old)
	require.NotContains(t, succeeds(t, "status", "--config", statusServer(t, strings.Replace(fmt.Sprintf(answer, "59"), "12:59:00", "12:59:55", 1))), "measured")
}

// screen ends a watch once it has been shown some blocks.
type screen struct {
	bytes.Buffer
	mark    string
	blocks  int
	reached func()
}

func (s *screen) Write(b []byte) (int, error) {
	n, err := s.Buffer.Write(b)
	if strings.Count(s.String(), s.mark) >= s.blocks {
		s.reached()
	}
	return n, err
}

func TestWatchShowsTheStatusAgainUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	fake := statusServer(t, `{"version": "v1", "transport": "postgres", "ready": true, "status": "leader", "roles": [{"role": "listener", "name": "observer", "state": "leader"}]}`)
	block := "status    leader, ready\nprocess   observer v1, transport postgres, up 0s\nlistener  observer: leader\n"
	object := `{"version":"v1","transport":"postgres","ready":true,"status":"leader","started_at":"0001-01-01T00:00:00Z","uptime_seconds":0,` +
		`"roles":[{"role":"listener","name":"observer","state":"leader"}]}` + "\n"
	for name, test := range map[string]struct {
		args    []string
		options []Option
		want    string
	}{
		"into a file":        {nil, nil, block + "\n" + block},
		"on a terminal":      {nil, []Option{answering}, clearScreen + block + clearScreen + block},
		"as JSON":            {[]string{"--format", "json"}, nil, object + object},
		"JSON on a terminal": {[]string{"--format", "json"}, []Option{answering}, object + object},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			out, errOut := &screen{mark: "leader", blocks: 4, reached: interrupt}, bytes.Buffer{}
			args := append([]string{"status", "--watch", "--interval", "100ms", "--config", fake}, test.args...)
			require.Equal(t, exitOK, execute(ctx, args, nil, out, &errOut, test.options...), errOut.String())
			require.Equal(t, test.want, out.String())
		})
	}
}
