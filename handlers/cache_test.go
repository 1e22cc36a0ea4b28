package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

func cacheAction(t *testing.T, url, pattern string) handlers.Action {
	t.Helper()
	action, err := handlers.NewCache(&handlers.CacheConfig{KeyPattern: pattern}, serversEnv(t, handlers.ServersConfig{Redis: redisConfig(url)}))
	require.NoError(t, err)
	return action
}

// rowOf is the JSON of a row with one field, x.
func rowOf(t *testing.T, value string) string {
	t.Helper()
	b, err := json.Marshal(map[string]string{"x": value})
	require.NoError(t, err)
	return string(b)
}

func setKeys(t *testing.T, client redis.Cmdable, keys ...string) {
	t.Helper()
	for page := range slices.Chunk(keys, 5000) {
		if _, cluster := client.(*redis.ClusterClient); !cluster {
			values := make([]string, 0, 2*len(page))
			for _, key := range page {
				values = append(values, key, "cached")
			}
			require.NoError(t, client.MSet(t.Context(), values).Err())
			continue
		}
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, key := range page {
				p.Set(t.Context(), key, "cached", 0)
			}
			return nil
		})
		require.NoError(t, err)
	}
}

// left returns which of the keys are still there.
func left(t *testing.T, client redis.Cmdable, keys ...string) []string {
	t.Helper()
	var there []string
	for _, key := range keys {
		n, err := client.Exists(t.Context(), key).Result()
		require.NoError(t, err)
		if n > 0 {
			there = append(there, key)
		}
	}
	return there
}

// wild are values that a careless program would take for a pattern.
var wild = []string{"*", "**", "?", "[a-z]", "[^a]", "[", "]", `\`, `\*`, `\\`, "^", "-", "a\nb", "\r\n", "\x00", "ü🦊*", " ", "{x}", "7", "{{ data.x }}"}

func TestCacheDeletesOneKey(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	client, prefix := redisClient(t, url), unique("session")
	action := cacheAction(t, url, prefix+":{{ data.x }}")
	for _, value := range wild {
		own, others := prefix+":"+value, []string{prefix + ":", prefix + ":a", prefix + ":b", prefix + ":aa", prefix + ":xyz"}
		setKeys(t, client, append(others, own)...)
		require.NoError(t, inTime(t, action, delivery(rowOf(t, value))))
		require.Equal(t, others, left(t, client, append(others, own)...), "%q", value)
		require.NoError(t, inTime(t, action, delivery(rowOf(t, value))), "what is gone is no failure")
	}
}

func TestCacheDeletesWhatMatches(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	client := redisClient(t, url)
	tests := map[string]struct {
		pattern string // after the prefix
		value   string
		gone    []string
		stay    []string
	}{
		"all that follows":          {"list:*", "", []string{"list:", "list:1", "list:1:2"}, []string{"list", "lists:1", "LIST:1"}},
		"one character":             {"list:?", "", []string{"list:1"}, []string{"list:", "list:12", "list:ü"}},
		"a class":                   {"list:[a-c]", "", []string{"list:a", "list:c"}, []string{"list:d", "list:-", "list:[a-c]"}},
		"all but a class":           {"list:[^a-c]*", "", []string{"list:d", "list:dd"}, []string{"list:a", "list:"}},
		"a wildcard that is none":   {`list:\*`, "", []string{"list:*"}, []string{"list:1", `list:\*`}},
		"a placeholder before":      {"{{ data.x }}:*", "7", []string{"7:", "7:1"}, []string{"77:1", "8:1"}},
		"a placeholder between":     {"*:{{ data.x }}:*", "7", []string{"a:7:b", ":7:"}, []string{"a:77:b", "7:"}},
		"a number keeps its digits": {"{{ data.n }}:*", "", []string{"9007199254740993:1"}, []string{"9007199254740992:1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := unique("cache") + ":"
			action := cacheAction(t, url, prefix+test.pattern)
			var stay, all []string
			for _, key := range test.stay {
				stay = append(stay, prefix+key)
			}
			all = slices.Clone(stay)
			for _, key := range test.gone {
				all = append(all, prefix+key)
			}
			setKeys(t, client, all...)
			row := fmt.Sprintf(`{"x": %q, "n": 9007199254740993}`, test.value)
			require.NoError(t, inTime(t, action, delivery(row)))
			require.Equal(t, stay, left(t, client, all...))
		})
	}
}

func TestCacheTakesWildcardsOfTheRowAsText(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	client := redisClient(t, url)
	tests := map[string]struct {
		pattern string
		key     func(value string) string // one that matches
	}{
		"all that follows": {"{{ data.x }}:*", func(value string) string { return value + ":1" }},
		"all before":       {"*:{{ data.x }}", func(value string) string { return "1:" + value }},
		"in the middle":    {"?:{{ data.x }}:[ab]", func(value string) string { return "1:" + value + ":b" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := unique("cache") + ":"
			action := cacheAction(t, url, prefix+test.pattern)
			var all []string
			for _, value := range append(slices.Clone(wild), "a", "b", "m", "aa", "xyz", "1:2") {
				all = append(all, prefix+test.key(value))
			}
			for i, value := range wild {
				setKeys(t, client, all...)
				require.NoError(t, inTime(t, action, delivery(rowOf(t, value))))
				require.Equal(t, slices.Delete(slices.Clone(all), i, i+1), left(t, client, all...), "%q", value)
			}
		})
	}
}

func TestCacheRefusesPatternsThatAreTooWide(t *testing.T) {
	t.Parallel()
	env := serversEnv(t, handlers.ServersConfig{Redis: redisConfig(redisAway)})
	tests := map[string]struct{ pattern, want string }{
		"nothing":                          {"", "is empty"},
		"a star":                           {"*", "matches every key"},
		"two stars":                        {"**", "matches every key"},
		"wildcards alone":                  {"?*", "matches every key"},
		"a class alone":                    {"[^a]*", "matches every key"},
		"a class that is not closed":       {"order:[a*", "[ without its ]"},
		"a class closed by its range":      {"order:[a-]", "[ without its ]"},
		"a placeholder in a class":         {"order:[{{ data.x }}]", "[ without its ]"},
		"a backslash before a placeholder": {`order:*\{{ data.x }}`, `a \ with no text behind it`},
		"a backslash at the end":           {`order:*\`, `a \ with no text behind it`},
		"no template":                      {"order:{{ data.x", "this {{ has no }}"},
		"a block":                          {"order:{{ if data.x }}*{{ end }}", "if and for have no place"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := handlers.NewCache(&handlers.CacheConfig{KeyPattern: test.pattern}, env)
			requireKeyError(t, err, "key_pattern", test.want)
		})
	}
	for _, pattern := range []string{"a*", "{{ data.x }}*", "*{{ data.x }}*", `\**`, "[a]b", `order:\{{ data.x }}`, `[\]]x*`, "[a-z]:{{ data.x }}"} {
		_, err := handlers.NewCache(&handlers.CacheConfig{KeyPattern: pattern}, env)
		require.NoError(t, err, pattern)
	}
}

func TestCacheRefusesOtherConfigs(t *testing.T) {
	t.Parallel()
	env := serversEnv(t, handlers.ServersConfig{Redis: redisConfig(redisAway)})
	_, err := handlers.NewCache(&handlers.CacheConfig{KeyPattern: "a", Action: "refresh"}, env)
	requireKeyError(t, err, "action", `write "invalidate"`)
	_, err = handlers.NewCache(&handlers.CacheConfig{KeyPattern: "a", Action: "invalidate"}, env)
	require.NoError(t, err)
	_, err = handlers.NewCache(&handlers.CacheConfig{KeyPattern: "a"}, serversEnv(t, handlers.ServersConfig{}))
	requireKeyError(t, err, "key_pattern", "set url in [redis]")
	_, err = handlers.NewCache(&handlers.CacheConfig{KeyPattern: "*", Action: "refresh"}, env)
	require.Len(t, handlers.KeyErrors(err), 2)
	_, err = handlers.NewCache(&handlers.CacheConfig{KeyPattern: "a"}, handlers.Env{})
	require.ErrorContains(t, err, "no servers are given")
}

func TestCacheNeverWidensAPattern(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	client, prefix := redisClient(t, url), unique("cache")
	key := prefix + ":1"
	setKeys(t, client, key)
	for _, pattern := range []string{"*{{ data.x }}*", prefix + ":{{ data.x }}*", prefix + `:{{ data.x | default "" }}*`, "{{ data.x }}", prefix + ":*{{ data.nope }}"} {
		action := cacheAction(t, url, pattern)
		for _, row := range []string{`{"x": ""}`, `{"x": null}`, `{}`} {
			err := inTime(t, action, delivery(row))
			require.True(t, event.IsPermanent(err), "%s %s: %v", pattern, row, err)
			require.Equal(t, "template", event.Class(err))
			_, err = action.(handlers.Previewer).Preview(delivery(row))
			require.Error(t, err)
		}
	}
	require.Equal(t, []string{key}, left(t, client, key))
}

func TestCachePreviewShowsTheCommand(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ pattern, want string }{
		"one key":   {"session:{{ data.x }}", "UNLINK session:7*"},
		"a pattern": {"session:{{ data.x }}:*", `SCAN MATCH session:7\*:* then UNLINK`},
	}
	env := serversEnv(t, handlers.ServersConfig{Redis: redisConfig(redisAway)})
	for name, test := range tests {
		action := cacheAction(t, redisAway, test.pattern)
		p, err := action.(handlers.Previewer).Preview(delivery(`{"x": "7*"}`))
		require.NoError(t, err, name)
		require.Equal(t, handlers.Preview{Request: test.want}, p)
	}
	env.Hidden = func(key string) bool { return key == "key_pattern" }
	action, err := handlers.NewCache(&handlers.CacheConfig{KeyPattern: "s3cret:{{ data.x }}"}, env)
	require.NoError(t, err)
	p, err := action.(handlers.Previewer).Preview(delivery(`{"x": 7}`))
	require.NoError(t, err)
	require.Equal(t, "UNLINK "+secret.Mask, p.Request)
}

func TestCacheCheckAsksRedis(t *testing.T) {
	t.Parallel()
	detail, err := cacheAction(t, testenv.Redis(t), "a").(handlers.Checker).Check(t.Context())
	require.NoError(t, err)
	require.Contains(t, detail, " answers")
	_, err = cacheAction(t, redisAway, "a").(handlers.Checker).Check(t.Context())
	require.ErrorContains(t, err, "connection refused")
}

// many returns n keys, of which every tenth begins with "hot:".
func many(prefix string, n int) (hot, cold []string) {
	for i := range n {
		if i%10 == 0 {
			hot = append(hot, prefix+"hot:"+strconv.Itoa(i))
		} else {
			cold = append(cold, prefix+"cold:"+strconv.Itoa(i))
		}
	}
	return hot, cold
}

func TestCacheOfManyKeysHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newRedisServer(t)
	client := redisClient(t, s.url())
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	hot, cold := many("page:", n)
	setKeys(t, client, append(hot, cold...)...)
	require.NoError(t, client.ConfigResetStat(t.Context()).Err())

	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	var waits []time.Duration
	others.Go(func() {
		for ctx.Err() == nil {
			begin := time.Now()
			if client.Ping(ctx).Err() == nil {
				waits = append(waits, time.Since(begin))
			}
		}
	})
	begin := time.Now()
	require.NoError(t, inTime(t, cacheAction(t, s.url(), "page:{{ data.x }}:*"), delivery(`{"x": "hot"}`)))
	took := time.Since(begin)
	cancel()
	others.Wait()
	slices.Sort(waits)
	t.Logf("%d of %d keys in %s; others waited %s at most, %s in the middle (%d asked)", len(hot), len(hot)+len(cold), took, waits[len(waits)-1], waits[len(waits)/2], len(waits))

	there, err := client.DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.EqualValues(t, len(cold), there)
	require.Empty(t, left(t, client, hot[:100]...))
	require.Len(t, left(t, client, cold[:100]...), 100)
	require.Greater(t, len(waits), 10, "others were answered in between")
	stats, err := client.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	require.Contains(t, stats, fmt.Sprintf("cmdstat_unlink:calls=%d,", len(hot)))
	require.Regexp(t, `cmdstat_scan:calls=\d{2,3},`, stats, "in pages of about 1000")
	require.NotContains(t, stats, "cmdstat_keys")
}

func TestCacheEndsWithItsTime(t *testing.T) {
	t.Parallel()
	s := newRedisServer(t)
	client := redisClient(t, s.url())
	hot, cold := many("page:", 100_000) // which take many times as long as it is given
	setKeys(t, client, append(hot, cold...)...)
	action := cacheAction(t, s.url(), "page:hot:*")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
	defer cancel()
	err := action.Run(ctx, delivery(`{}`))
	requireTransient(t, err, "timeout")
	require.ErrorContains(t, err, "SCAN and UNLINK: not through every key in time")

	stopped, stop := context.WithCancel(t.Context())
	time.AfterFunc(2*time.Millisecond, stop)
	require.ErrorIs(t, action.Run(stopped, delivery(`{}`)), context.Canceled)
	require.NoError(t, inTime(t, action, delivery(`{}`)), "the next attempt does the rest")
	n, err := client.DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.EqualValues(t, len(cold), n)
}

func TestCacheOutlivesItsRedis(t *testing.T) {
	t.Parallel()
	s := newRedisServer(t)
	for _, pattern := range []string{"session:{{ data.x }}", "session:{{ data.x }}:*"} {
		action := cacheAction(t, s.url(), pattern)
		require.NoError(t, inTime(t, action, delivery(`{"x": "s3cret"}`)))
		s.stop()
		for range 20 {
			err := inTime(t, action, delivery(`{"x": "s3cret"}`))
			requireTransient(t, err, "refused", "network", "reset")
			require.NotContains(t, err.Error(), "s3cret")
		}
		s.start(t)
		testenv.Eventually(t, 30*time.Second, func() error { return inTime(t, action, delivery(`{"x": 7}`)) })
	}
}

// TestCacheAsksEveryMasterOfACluster goes through three masters, which share the slots.
func TestCacheAsksEveryMasterOfACluster(t *testing.T) {
	t.Parallel()
	var nodes []*redisServer
	var addresses []string
	for range 3 {
		s := newRedisServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
		nodes, addresses = append(nodes, s), append(addresses, s.address())
	}
	for i, s := range nodes {
		client := redisClient(t, s.url())
		require.NoError(t, client.ClusterAddSlotsRange(t.Context(), i*16384/3, (i+1)*16384/3-1).Err())
		require.NoError(t, client.ClusterMeet(t.Context(), "127.0.0.1", strconv.Itoa(nodes[0].port)).Err())
	}
	for _, s := range nodes {
		client := redisClient(t, s.url())
		testenv.Eventually(t, 30*time.Second, func() error {
			info, err := client.ClusterInfo(t.Context()).Result()
			if err == nil && !strings.Contains(info, "cluster_state:ok") {
				err = errors.New(info)
			}
			return err
		})
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses})
	defer func() { require.NoError(t, cluster.Close()) }()
	var hot, cold []string
	for i := range 3000 {
		hot, cold = append(hot, fmt.Sprint("hot:", i)), append(cold, fmt.Sprint("cold:", i))
	}
	setKeys(t, cluster, append(hot, cold...)...)
	require.NoError(t, handlers.UnlinkMatching(t.Context(), cluster, "hot:*"))
	require.Empty(t, left(t, cluster, hot...))
	require.Len(t, left(t, cluster, cold...), len(cold))
}
