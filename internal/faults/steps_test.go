package faults

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/step"
	"github.com/fraiseql/observer/internal/testenv"
)

// What makes a child kill itself when it passes a step for the n-th time.
const (
	stepEnv = "OBSERVER_FAULTS_STEP"
	passEnv = "OBSERVER_FAULTS_PASS"
)

// The steps around the action.
const (
	afterClaim  step.Step = "after-claim"  // the delivery is claimed, its action has not begun
	afterEffect step.Step = "after-effect" // the action has succeeded, nobody knows yet
)

// dieAtStep does what the environment of the child asks for.
func dieAtStep() {
	name := step.Step(os.Getenv(stepEnv))
	pass, err := strconv.ParseInt(os.Getenv(passEnv), 10, 64)
	if err != nil {
		return // it asks for nothing
	}
	var passed atomic.Int64
	step.Reached = func(s step.Step, event string) {
		if s == name && passed.Add(1) == pass {
			die(fmt.Sprintf("%s of event %q", s, event))
		}
	}
}

// aroundAction is the middleware that sees the steps around the action.
func aroundAction(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		id := event.FromContext(msg.Context()).Event.ID
		step.At(afterClaim, id)
		msgs, err := next(msg)
		if err == nil {
			step.At(afterEffect, id)
		}
		return msgs, err
	}
}

// steps says how often the delivery at which the process died succeeds in all, with and without deduplication; 0: there is
// no such step, or none such delivery.
var steps = map[step.Step]struct{ deduplicated, plain int }{
	afterClaim:            {1, 1},
	afterEffect:           {2, 2},
	step.BeforeConfirm:    {2, 0},
	step.BeforePark:       {1, 1},
	step.BeforeAck:        {1, 2},
	step.BeforeCheckpoint: {0, 0},
}

// TestAKillAtAnyStepLosesNothing kills the process between any two things that it does for a delivery. Deduplicated, the
// delivery itself comes again only between its effect and its confirmation. What else ran then may have been there too.
func TestAKillAtAnyStepLosesNothing(t *testing.T) {
	scenario(t)
	for name, times := range steps {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			config := w.config(t, settings{start: "beginning", redis: testenv.NewRedis(t).URL(), timeout: 1000, retry: patient, onRetry: "hold", team: "steps"})
			v := w.killsAt(t, name, config, times.deduplicated, "deduplicated")
			require.LessOrEqual(t, v.duplicates, len(w.kills)*concurrency, "what ran at a kill")
		})
	}
}

// TestAKillAtAnyStepWithoutDeduplication is the same where nothing but the checkpoint knows what is done.
func TestAKillAtAnyStepWithoutDeduplication(t *testing.T) {
	exact(t)
	for name, times := range steps {
		if name == step.BeforeConfirm || !long && name != step.BeforeAck { // the short form has the one that deduplication changes
			continue
		}
		t.Run(string(name), func(t *testing.T) {
			if !long {
				t.Parallel()
			}
			w := newWorld(t, "")
			v := w.killsAt(t, name, w.config(t, settings{start: "beginning", retry: patient, onRetry: "hold", team: "steps"}), times.plain, "")
			require.LessOrEqual(t, v.duplicates, v.allowed)
		})
	}
}

// killsAt lets the process die at a step several times, while the receiver fails now and then, and checks how often the
// delivery succeeded that was there.
func (w *world) killsAt(t *testing.T, name step.Step, config string, times int, how string) verdict {
	t.Helper()
	w.receiver.delay(0, 20*time.Millisecond)
	w.receiver.misbehaves(10, unavailable)
	startWriters(t, w.writers, t.Name())
	random := newRandom(t.Name(), writerCount+1)
	died := map[string]bool{}
	for i := range pick(1, 2) {
		if i > 0 {
			w.recovers(t, config)
		}
		o := startObserver(t, config, fmt.Sprintf("%s=%s", stepEnv, name), fmt.Sprintf("%s=%d", passEnv, 3+random.IntN(15)))
		require.Equal(t, -1, o.exit(t), "it died of the signal: %s", o.tail(20))
		killed := o.died(t)
		died[o.diedOf(t)] = true
		w.kills = append(w.kills, killed)
		if how == "" {
			w.excuseParked(t, killed)
		}
		if i%2 == 0 { // the next one begins while the deliveries are still claimed
			execute(t, w, `update core.tb_observer_lease set expires_at = clock_timestamp()`)
		}
	}
	w.receiver.misbehaves(0)
	o := startObserver(t, config)
	o.leads(t)
	v := w.finish(t, strings.TrimSuffix("kill -9 "+strings.ReplaceAll(string(name), "-", " ")+", "+how, ", "), o)
	require.Zero(t, query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`))
	if times > 0 {
		w.succeeded(t, died, times)
	}
	return v
}

// recovers lets a process settle what another has begun: what was running at both ends would come once more, and after three
// be taken for their cause.
func (w *world) recovers(t *testing.T, config string) {
	t.Helper()
	o := startObserver(t, config)
	o.leads(t)
	committed := w.journal.all()
	testenv.Eventually(t, 2*within, func() error {
		if n := check(committed, w.arrived(), nil, nil).lost; n > 0 {
			return fmt.Errorf("%d committed changes have not arrived", n)
		}
		return nil
	})
	code, _ := o.terminate(t)
	require.Zero(t, code)
}

// succeeded checks how often each of the events was delivered.
func (w *world) succeeded(t *testing.T, events map[string]bool, times int) {
	t.Helper()
	count := map[string]int{}
	for _, r := range w.arrived() {
		if id, _, _ := strings.Cut(r.id, "_"); events[id] && r.status < 300 {
			count[id]++
		}
	}
	require.Len(t, count, len(events))
	for id, n := range count {
		require.Equal(t, times, n, "event %s, at which the process died", id)
	}
}

var killedOf = regexp.MustCompile(`killed .* of event "(.*)" at`)

// diedOf returns the id of the event at which the process killed itself; "" for none.
func (o *observer) diedOf(t *testing.T) string {
	t.Helper()
	found := killedOf.FindStringSubmatch(o.text())
	require.NotNil(t, found, o.tail(20))
	return found[1]
}
