package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// scanPage is how many keys one SCAN looks at: Redis answers others in between.
const scanPage = 1000

// Cache is the action that deletes keys from Redis: one key, or those that match a pattern. Deleting again what is gone
// does no harm, so an attempt that was cut off is simply repeated.
type Cache struct {
	servers *Servers
	key     *Template
	pattern bool
	hidden  bool // the key holds what must not be shown
}

// NewCache builds the action from its keys.
func NewCache(cfg *CacheConfig, env Env) (Action, error) {
	if env.Servers == nil {
		return nil, errors.New("build cache action: no servers are given")
	}
	c := &Cache{servers: env.Servers, hidden: env.hides("key_pattern")}
	var actionErr, keyErr error
	if cfg.Action != "" && cfg.Action != "invalidate" {
		actionErr = &KeyError{Key: "action", Err: errors.New("is not what this action can do"), Hint: `write "invalidate"`}
	}
	if err := c.compile(cfg.KeyPattern); err != nil {
		keyErr = &KeyError{Key: "key_pattern", Err: err}
	} else if env.Servers.cfg.Redis == nil {
		keyErr = &KeyError{Key: "key_pattern", Err: errNoRedis}
	}
	if err := errors.Join(actionErr, keyErr); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Cache) compile(src string) error {
	if src == "" {
		return errors.New(`is empty (write a key such as "order:{{ data.id }}")`)
	}
	pattern, err := CompileTemplate(src, KeyPattern)
	if err != nil {
		return err
	}
	for _, p := range pattern.parts {
		c.pattern = c.pattern || p.kind == literalPart && strings.ContainsAny(p.literal, "*?[")
	}
	if !c.pattern {
		c.key, err = CompileTemplate(src, Plain)
		return err
	}
	c.key = pattern
	return checkPattern(pattern.parts)
}

// Endpoint names the server.
func (c *Cache) Endpoint() string { return "redis" }

// Run deletes the keys. Its errors name no key, which comes from a row.
func (c *Cache) Run(ctx context.Context, d *event.Delivery) error {
	key, err := c.render(d.Event)
	if err != nil {
		return err
	}
	client, err := c.servers.Redis()
	switch {
	case err != nil:
		return unopened(ctx, err)
	case c.pattern:
		return unlinkMatching(ctx, client, key)
	}
	if err := redisError(ctx, client.Unlink(ctx, key).Err()); err != nil {
		return fmt.Errorf("UNLINK: %w", err)
	}
	return nil
}

// UsesRedis implements [RedisUser].
func (c *Cache) UsesRedis() bool { return true }

func (c *Cache) render(e *event.Event) (string, error) {
	key, err := c.key.Render(e)
	if err == nil && len(key) == 0 {
		err = event.Permanent(event.WithClass(errors.New("render key_pattern: the key is empty"), "template"))
	}
	return string(key), err
}

// unlinkMatching deletes what matches on every node that holds keys.
func unlinkMatching(ctx context.Context, client redis.UniversalClient, pattern string) error {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return redisScanError(ctx, cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return unlinkPages(ctx, node, pattern)
		}))
	}
	return redisScanError(ctx, unlinkPages(ctx, client, pattern))
}

// unlinkPages deletes page by page. Keys go one a command, since those of a page belong to several slots of a cluster.
func unlinkPages(ctx context.Context, node redis.Cmdable, pattern string) error {
	for cursor := uint64(0); ctx.Err() == nil; {
		keys, next, err := node.Scan(ctx, cursor, pattern, scanPage).Result()
		if err != nil {
			return err
		}
		_, err = node.Pipelined(ctx, func(page redis.Pipeliner) error {
			for _, key := range keys {
				page.Unlink(ctx, key)
			}
			return nil
		})
		if err != nil || next == 0 {
			return err
		}
		cursor = next
	}
	return ctx.Err()
}

func redisScanError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = event.WithClass(errors.New("not through every key in time (performance.concurrent_timeout_ms is the time for one attempt)"), "timeout")
	default:
		err = redisError(ctx, err)
	}
	return fmt.Errorf("SCAN and UNLINK: %w", err)
}

// Preview implements [Previewer].
func (c *Cache) Preview(d *event.Delivery) (Preview, error) {
	key, err := c.render(d.Event)
	if err != nil {
		return Preview{}, err
	}
	if c.hidden {
		key = secret.Mask
	}
	if c.pattern {
		return Preview{Request: "SCAN MATCH " + key + " then UNLINK"}, nil
	}
	return Preview{Request: "UNLINK " + key}, nil
}

// Check implements [Checker].
func (c *Cache) Check(ctx context.Context) (string, error) { return c.servers.pingRedis(ctx) }

var (
	errEscape     = errors.New(`holds a \ with no text behind it (write \\ for a backslash)`)
	errClass      = errors.New(`holds a [ without its ] (no placeholder stands between them; write \[ for a bracket)`)
	errEverything = errors.New(`matches every key (write what the keys begin with, such as "order:*")`)
)

// checkPattern refuses what Redis would read in another way than it is meant, and what would match every key. It reads the
// text as Redis does: stringmatchlen in its util.c.
func checkPattern(parts []part) error {
	narrow := false
	for _, p := range parts {
		if p.kind != literalPart {
			narrow = true // it is never empty
			continue
		}
		text, err := hasText(p.literal)
		if err != nil {
			return err
		}
		narrow = narrow || text
	}
	if !narrow {
		return errEverything
	}
	return nil
}

// hasText reports whether a pattern holds more than wildcards.
func hasText(s string) (found bool, err error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?':
		case '[':
			if i = classEnd(s, i+1); i < 0 {
				return false, errClass
			}
		case '\\':
			if i++; i == len(s) {
				return false, errEscape // it would take the first character of a placeholder's text
			}
			found = true
		default:
			found = true
		}
	}
	return found, nil
}

// classEnd returns where the ] of a class is, whose first character is at i, -1 when there is none.
func classEnd(s string, i int) int {
	if i < len(s) && s[i] == '^' {
		i++
	}
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == ']':
			return i
		case i+2 < len(s) && s[i+1] == '-':
			i += 2
		}
	}
	return -1
}
