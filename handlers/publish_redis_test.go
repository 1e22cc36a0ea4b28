package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/testenv"
)

func redisAction(t *testing.T, url, topic, body string) handlers.Action {
	t.Helper()
	env := serversEnv(t, handlers.ServersConfig{Redis: redisConfig(url)})
	return publishAction(t, env, handlers.PublishConfig{Topic: topic, BodyTemplate: body})
}

// redisClient is the test's own.
func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() }) // a stock subscriber closes it as well
	return client
}

// unique is the name of a key in the Redis that tests share.
func unique(name string) string { return name + ":" + uuid.NewString() }

func TestPublishIsReadByAStockRedisSubscriber(t *testing.T) {
	t.Parallel()
	for name, test := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, stream := testenv.Redis(t), unique("orders")
			d := delivery(nastyRow)
			require.NoError(t, inTime(t, redisAction(t, url, stream, test.template), d))
			subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
				Client: redisClient(t, url), ConsumerGroup: "readers", OldestId: "0", DisableIndefiniteInitialBlock: true,
			}, nil)
			require.NoError(t, err)
			want := test.want
			if want == "" {
				want = string(d.Event.JSON())
			}
			requireMessage(t, receive(t, subscriber, stream), d, want)
		})
	}
}

func TestPublishToWhatIsNoStreamIsPermanent(t *testing.T) {
	t.Parallel()
	url, key := testenv.Redis(t), unique("orders")
	require.NoError(t, redisClient(t, url).Set(t.Context(), key, "text", 0).Err())
	err := inTime(t, redisAction(t, url, key, ""), delivery(nastyRow))
	require.True(t, event.IsPermanent(err))
	require.Equal(t, "redis_wrongtype", event.Class(err))
	require.ErrorContains(t, err, "XADD "+key+": WRONGTYPE")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestPublishSaysWhatIsWrongWithTheURL(t *testing.T) {
	t.Parallel()
	err := inTime(t, redisAction(t, "http://app:s3cret@host", "orders", ""), delivery(`{}`))
	requireTransient(t, err, "config")
	require.ErrorContains(t, err, "url in [redis] is not the URL of a Redis server")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestPublishTrimsNothing(t *testing.T) {
	t.Parallel()
	url, stream := testenv.Redis(t), unique("orders")
	action := redisAction(t, url, stream, "")
	for i := range 500 {
		require.NoError(t, inTime(t, action, orderOf(strconv.Itoa(i), `{}`)))
	}
	require.EqualValues(t, 500, redisClient(t, url).XLen(t.Context(), stream).Val())
}

func TestPublishCheckAsksRedis(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	detail, err := redisAction(t, url, "orders", "").(handlers.Checker).Check(t.Context())
	require.NoError(t, err)
	require.Regexp(t, `^127\.0\.0\.1:\d+ answers$`, detail)
	_, err = redisAction(t, redisAway, "orders", "").(handlers.Checker).Check(t.Context())
	require.ErrorContains(t, err, "PING: dial tcp 127.0.0.1:1: connect: connection refused")
}

// redisServer is a server that a test stops and starts again where it was. Its data is gone then.
type redisServer struct {
	port  int
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
}

// The ports, of which a cluster uses one 10000 higher as well, are below those that kernels hand out, so that they stay free
// while the server is stopped. Others may have taken them before.
func newRedisServer(t *testing.T, args ...string) *redisServer {
	t.Helper()
	for range 5 {
		s := &redisServer{port: 20000 + rand.IntN(2000), args: args}
		if s.tryStart(t) {
			t.Cleanup(s.stop)
			return s
		}
	}
	require.FailNow(t, "redis-server ends at once, on every port")
	return nil
}

func (s *redisServer) start(t *testing.T) {
	t.Helper()
	require.True(t, s.tryStart(t), "redis-server ended at once")
}

func (s *redisServer) tryStart(t *testing.T) bool {
	t.Helper()
	args := append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, s.args...)
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server", args...)
	require.NoError(t, s.cmd.Start())
	s.ended = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // it is killed
		close(s.ended)
	}()
	options, err := redis.ParseURL(s.url())
	require.NoError(t, err)
	options.PoolSize = 1 << 10 // with fewer failures than that go-redis asks each time
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	running := true
	testenv.Eventually(t, 30*time.Second, func() error {
		select {
		case <-s.ended:
			running = false
			return nil
		default:
		}
		info, err := client.Info(t.Context(), "server").Result()
		if err == nil && !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)) {
			err = errors.New("another Redis answers")
		}
		return err
	})
	return running
}

func (s *redisServer) stop() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

func (s *redisServer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *redisServer) url() string { return "redis://" + s.address() }

func TestPublishOutlivesItsRedis(t *testing.T) {
	t.Parallel()
	s := newRedisServer(t)
	cfg := redisConfig(s.url())
	cfg.ConnectTimeoutSecs, cfg.CommandTimeoutSecs = 3600, 3600 // which a wait for anything would take
	action := publishAction(t, serversEnv(t, handlers.ServersConfig{Redis: cfg}), handlers.PublishConfig{Topic: "orders"})
	require.NoError(t, inTime(t, action, delivery(`{}`)))
	for range 2 {
		s.stop()
		for range 20 { // more than the pool has connections
			requireTransient(t, inTime(t, action, delivery(`{}`)), "refused", "network", "reset")
		}
		s.start(t)
		testenv.Eventually(t, 30*time.Second, func() error { return inTime(t, action, delivery(`{}`)) })
		require.EqualValues(t, 1, redisClient(t, s.url()).XLen(t.Context(), "orders").Val())
	}
}

func TestPublishToASilentRedisEndsWithItsTime(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	action := redisAction(t, "redis://"+listener.Addr().String(), "orders", "")
	var group errgroup.Group
	for range 20 { // more than the pool has connections
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			begin := time.Now()
			requireTransient(t, action.Run(ctx, delivery(`{}`)), "timeout")
			require.Less(t, time.Since(begin), 10*time.Second, "far more than it takes, for a busy machine")
			return nil
		})
	}
	require.NoError(t, group.Wait())
}

func TestPublishOutcomesOfRedis(t *testing.T) {
	t.Parallel()
	s := newRedisServer(t)
	require.NoError(t, redisClient(t, s.url()).ConfigSet(t.Context(), "requirepass", "s3cret").Err())
	admin := redisClient(t, strings.Replace(s.url(), "//", "//:s3cret@", 1))
	require.NoError(t, admin.ACLSetUser(t.Context(), "app", "on", ">s3cret", "+@all", "-xadd", "~*").Err())
	tests := map[string]struct{ user, class, text string }{
		"no password":    {"", "auth", "NOAUTH"},
		"wrong password": {":guess@", "auth", "WRONGPASS"},
		"no right":       {"app:s3cret@", "denied", "NOPERM"},
	}
	for name, test := range tests {
		err := inTime(t, redisAction(t, strings.Replace(s.url(), "//", "//"+test.user, 1), "orders", ""), delivery(`{}`))
		requireTransient(t, err, test.class)
		require.ErrorContains(t, err, test.text, name)
		require.NotContains(t, err.Error(), "s3cret")
		require.NotContains(t, err.Error(), "guess")
	}
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())
	err := inTime(t, redisAction(t, strings.Replace(s.url(), "//", "//:s3cret@", 1), "orders", ""), delivery(`{}`))
	requireTransient(t, err, "redis_oom")
}
