package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/internal/testenv"
)

// request is one webhook request that arrived.
type request struct {
	id         string // webhook-id
	change     change
	tx         string
	rolledBack bool
	source     string // the database
	instance   string // which process sent it
	status     int
	at         time.Time // when it arrived
	replied    time.Time // zero: it was never answered
}

// receiver is the other end of the webhooks. What it answered with an error counts as not delivered.
type receiver struct {
	addr string

	mu       sync.Mutex // guards what follows
	requests []*request
	least    time.Duration
	most     time.Duration
	status   int
	every    int            // each so many requests get a misbehaviour; 0: none
	ways     []misbehaviour // in turn
	turn     int            // requests that misbehaved or could have
	server   *http.Server
	ended    chan error
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK, addr: "127.0.0.1:0"}
	r.up(t)
	t.Cleanup(func() {
		if r.server != nil {
			r.down(t)
		}
	})
	return r
}

// up starts to listen, at the same address as before.
func (r *receiver) up(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", r.addr)
	require.NoError(t, err)
	r.addr = listener.Addr().String()
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: within}
	r.ended = make(chan error, 1)
	go func(server *http.Server) { r.ended <- server.Serve(listener) }(r.server)
}

// down stops to listen and breaks every connection.
func (r *receiver) down(t *testing.T) {
	t.Helper()
	require.NoError(t, r.server.Close())
	if err := <-r.ended; !errors.Is(err, http.ErrServerClosed) {
		require.NoError(t, err)
	}
	r.server = nil
}

// answer sets the status of what arrives from now on.
func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// delay makes each answer take between least and most.
func (r *receiver) delay(least, most time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.least, r.most = least, most
}

// misbehaves makes every n-th request from now on get one of the ways, in turn; 0 ends it.
func (r *receiver) misbehaves(every int, ways ...misbehaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.every, r.ways, r.turn = every, ways, 0
}

// way returns what the next request gets; nil is an answer. The caller holds mu.
func (r *receiver) way() *misbehaviour {
	if r.every == 0 {
		return nil
	}
	r.turn++
	if r.turn%r.every > 0 {
		return nil
	}
	return &r.ways[(r.turn/r.every-1)%len(r.ways)]
}

// misbehaved waits until n requests have met a misbehaviour since the last call of misbehaves.
func (r *receiver) misbehaved(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if met := r.turn / r.every; met < n {
			return fmt.Errorf("%d of %d requests met a misbehaviour", met, n)
		}
		return nil
	})
}

func (r *receiver) serve(w http.ResponseWriter, h *http.Request) {
	body, err := io.ReadAll(h.Body)
	if err != nil {
		return // it has not arrived
	}
	got := read(h, body)
	r.mu.Lock()
	got.status = r.status
	way := r.way()
	if way != nil {
		got.status = way.status
	}
	r.requests = append(r.requests, got)
	pause := r.least
	if spread := r.most - r.least; spread > 0 {
		pause += rand.N(spread)
	}
	r.mu.Unlock()
	if way != nil {
		way.act(w, h)
		return
	}
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.Context().Done():
			return
		}
	}
	r.mu.Lock()
	got.replied = time.Now()
	r.mu.Unlock()
	w.WriteHeader(got.status)
}

func read(h *http.Request, body []byte) *request {
	fields := gjson.GetManyBytes(body, "entity_type", "entity_id", "data.rev", "data.tx", "data.rolled_back", "source")
	return &request{
		id:     h.Header.Get("webhook-id"),
		change: change{fields[0].String() + "/" + fields[1].String(), fields[2].Int()},
		tx:     fields[3].String(), rolledBack: fields[4].Bool(),
		source: fields[5].String(), instance: h.URL.Query().Get("instance"),
		at: time.Now(),
	}
}

// all returns copies of what has arrived, in that order.
func (r *receiver) all() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]request, len(r.requests))
	for i, one := range r.requests {
		list[i] = *one
	}
	return list
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

// firstAfter returns when the first request of an instance ("" for any) arrived after a moment; zero for none.
func (r *receiver) firstAfter(moment time.Time, instance string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.requests, func(one *request) bool {
		return one.at.After(moment) && (instance == "" || one.instance == instance)
	})
	if i < 0 {
		return time.Time{}
	}
	return r.requests[i].at
}
