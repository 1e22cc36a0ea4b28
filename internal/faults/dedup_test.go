package faults

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestDeduplicationSurvivesKills kills the process again and again while Redis keeps the record of what is done: what had
// settled before a kill does not come again, however shortly before that was.
func TestDeduplicationSurvivesKills(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{redis: testenv.NewRedis(t).URL(), timeout: 1000})
	o := startObserver(t, config)
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	every(t, pick(2*time.Second, 3*time.Second), chaosTime/2, func() {
		killed := w.kill(o)
		o = startObserver(t, config)
		w.delivers(t, killed, "")
	})
	v := w.finish(t, "kill -9 every 3 s, deduplicated in Redis", o)
	require.LessOrEqual(t, v.duplicates, len(w.kills)*concurrency, "what ran at a kill")
}

// TestRedisComesAndGoes stops the Redis that deduplicates, starts it again without its memory, and flushes it.
func TestRedisComesAndGoes(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	server := testenv.NewRedis(t)
	o := startObserver(t, w.config(t, settings{redis: server.URL()}))
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	pause := pick(time.Second, 10*time.Second)
	server.Stop(t)
	w.delivers(t, time.Now(), "")
	wait(t.Context(), pause)
	w.delivers(t, time.Now(), "")
	server.Start(t)
	wait(t.Context(), pause)
	options, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	client := redis.NewClient(options)
	require.Positive(t, client.DBSize(t.Context()).Val(), "it is used again")
	require.NoError(t, client.FlushAll(t.Context()).Err())
	require.NoError(t, client.Close())
	wait(t.Context(), pause)
	v := w.finish(t, "Redis stopped, started, flushed", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}
