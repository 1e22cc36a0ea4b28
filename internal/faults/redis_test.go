package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// busy is how many deliveries must arrive while Redis is in trouble: far fewer than are made, far more than if each waited.
const busy = 50

// trouble lasts longer than a command may take (1 s) and than a lease lasts (2 s).
var trouble = pick(3*time.Second, 10*time.Second)

// redisWorld is a world that is deduplicated through a Redis at url.
func redisWorld(t *testing.T, url string) (w *world, o *observer, config string) {
	t.Helper()
	w = newWorld(t, "")
	config = w.config(t, settings{redis: url, timeout: 1000})
	o = startObserver(t, config)
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	return w, o, config
}

// goesOn checks that deliveries arrive while Redis is in trouble, and that the process says so.
func (w *world) goesOn(t *testing.T, o *observer) {
	t.Helper()
	before := w.receiver.count()
	require.Less(t, w.delivers(t, time.Now(), ""), soon)
	o.says(t, "degraded")
	wait(t.Context(), trouble)
	require.Greater(t, w.receiver.count()-before, busy, "deliveries went on")
	require.Less(t, w.delivers(t, time.Now(), ""), soon)
}

// says waits until /readyz has a status, with code 200: nothing here makes the process unready.
func (o *observer) says(t *testing.T, status string) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		r, err := o.ready(t.Context())
		if err == nil && (r.code != 200 || r.Status != status) {
			err = fmt.Errorf("/readyz says %+v, not %s", r, status)
		}
		return err
	})
}

func TestAStoppedRedisHoldsNothingUp(t *testing.T) {
	scenario(t)
	server := testenv.NewRedis(t)
	w, o, _ := redisWorld(t, server.URL())
	server.Signal(t, syscall.SIGSTOP)
	w.goesOn(t, o)
	server.Signal(t, syscall.SIGCONT)
	o.says(t, "leader")
	v := w.finish(t, "Redis stopped (SIGSTOP), then continued", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}

func TestAFullRedisHoldsNothingUp(t *testing.T) {
	scenario(t)
	server := testenv.NewRedis(t, "maxmemory-policy noeviction")
	w, o, _ := redisWorld(t, server.URL())
	options, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorContains(t, client.Set(t.Context(), "test", "1", time.Second).Err(), "OOM")
	w.goesOn(t, o)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	o.says(t, "leader")
	v := w.finish(t, "Redis out of memory", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}

// TestABadWayToRedisHoldsNothingUp puts a proxy before Redis, and kills the process while answers take 2 s.
func TestABadWayToRedisHoldsNothingUp(t *testing.T) {
	onlyLong(t)
	scenario(t)
	proxy := newProxy(t, testenv.NewRedis(t).Address())
	w, o, config := redisWorld(t, "redis://"+proxy.Listen+"/0")
	for _, toxic := range pick([]string{latency}, []string{latency, resets, silence}) {
		_, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
		require.NoError(t, err)
		w.goesOn(t, o)
		if toxic == latency {
			killed := w.kill(o)
			w.excuseUnconfirmed(killed)
			o = startObserver(t, config)
			w.delivers(t, killed, "")
			o.says(t, "degraded")
		}
		require.NoError(t, proxy.Toxics.RemoveToxic(t.Context(), "bad"))
		o.says(t, "leader")
	}
	v := w.finish(t, "Redis takes 2 s, resets, is silent; kill -9", o)
	require.LessOrEqual(t, v.duplicates, len(w.kills)*concurrency, "what ran at a kill")
}

// unconfirmed is for how long a delivery that has had its effect may wait for a Redis that does not answer: a second for each
// of the client's two tries, and a second to connect anew.
const unconfirmed = 3 * time.Second

// excuseUnconfirmed lets what was waiting so at a kill come again.
func (w *world) excuseUnconfirmed(killed time.Time) {
	for _, r := range w.arrived() {
		if r.at.Before(killed) && r.replied.After(killed.Add(-unconfirmed)) {
			event, _, _ := strings.Cut(r.id, "_")
			w.excused[event] = true
		}
	}
}

const (
	latency = `{"name": "bad", "type": "latency", "attributes": {"latency": 2000}}`
	resets  = `{"name": "bad", "type": "reset_peer", "attributes": {"timeout": 50}}`
	silence = `{"name": "bad", "type": "timeout", "attributes": {"timeout": 0}}`
)

func newProxy(t *testing.T, upstream string) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "proxy", "127.0.0.1:0", upstream)
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	return proxy
}
