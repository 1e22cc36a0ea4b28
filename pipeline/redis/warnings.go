package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Warnings says what in the settings of a server can lose events, retries or dead letters, which are nowhere else: it needs
// appendonly yes, appendfsync everysec or always, and maxmemory-policy noeviction. Where CONFIG is forbidden it knows less,
// and says so. A server that does not answer is no finding.
func Warnings(ctx context.Context, client redis.UniversalClient) []string {
	var found []string
	settings, refused := configOf(ctx, client)
	info := infoOf(ctx, client)
	switch appendOnly, known := first(settings["appendonly"], info["aof_enabled"]); {
	case known && appendOnly != "yes" && appendOnly != "1":
		found = append(found, "appendonly is no: a restart of Redis loses events, retries and dead letters; set appendonly yes and appendfsync everysec")
	case settings["appendfsync"] == "no":
		found = append(found, "appendfsync is no: a crash of its machine loses what Redis took in the last half a minute or so; set appendfsync everysec, or always")
	}
	if policy, known := first(settings["maxmemory-policy"], info["maxmemory_policy"]); known && policy != "noeviction" {
		found = append(found, fmt.Sprintf("maxmemory-policy is %s: Redis deletes retries and dead letters when its memory is full; set maxmemory-policy noeviction", policy))
	}
	if info["aof_last_write_status"] == "err" {
		found = append(found, "the last write of the append-only file failed: look at the disk and the log of Redis")
	}
	if major, _, _ := strings.Cut(info["redis_version"], "."); major != "" {
		if n, err := strconv.Atoi(major); err == nil && n < 7 {
			found = append(found, "Redis "+info["redis_version"]+" is older than 7.0, with which the redis transport is tested")
		}
	}
	if refused {
		found = append(found, "Redis does not let its settings be read (CONFIG GET): see for yourself that appendfsync is everysec or always")
	}
	return found
}

func first(values ...string) (value string, known bool) {
	for _, v := range values {
		if v != "" {
			return v, true
		}
	}
	return "", false
}

// configOf reports refused when the server answers that it is not to be asked.
func configOf(ctx context.Context, client redis.UniversalClient) (settings map[string]string, refused bool) {
	settings = map[string]string{}
	for _, name := range []string{"appendonly", "appendfsync", "maxmemory-policy"} {
		answer, err := client.ConfigGet(ctx, name).Result()
		if _, answered := errors.AsType[redis.Error](err); answered {
			return settings, true
		}
		if err == nil {
			settings[name] = answer[name]
		}
	}
	return settings, false
}

func infoOf(ctx context.Context, client redis.UniversalClient) map[string]string {
	values := map[string]string{}
	for _, section := range []string{"server", "memory", "persistence"} {
		text, err := client.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				values[name] = value
			}
		}
	}
	return values
}
