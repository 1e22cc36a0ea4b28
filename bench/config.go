package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// setup is a configuration file of the program.
type setup struct {
	database    string
	listener    string // "": a new one, which reads from the beginning
	concurrency int
	observers   string // [[observers]] tables
	admin       string // address; "": any
	performance string // more lines of [performance]
	redis       string // URL; "": no Redis
	transport   string // [transport] and its tables; "": the change log
}

const settings = `[transport.postgres]
url = %q
listener_name = %q
start_from = "beginning"
retention_days = 0
[performance]
max_concurrency = %d
%s[admin]
listen = %q
[log]
level = "warn"
`

// observe starts the program under test; s.After and s.Want matter to the no-op action.
func (b *bench) observe(ctx context.Context, set setup, s spec) (*child, error) {
	if set.listener == "" {
		set.listener = b.name("listener")
	}
	if set.concurrency == 0 {
		set.concurrency = 64
	}
	if set.admin == "" {
		set.admin = "127.0.0.1:0"
	}
	file := filepath.Join(b.dir, set.listener+".toml")
	if err := os.WriteFile(file, []byte(set.text()), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	s.Role = "observer"
	return b.start(ctx, s, "run", "--config", file)
}

func (s setup) text() string {
	text := fmt.Sprintf(settings, s.database, s.listener, s.concurrency, s.performance, s.admin)
	if s.redis != "" {
		text += fmt.Sprintf("[redis]\nurl = %q\n", s.redis)
	}
	return text + s.transport + s.observers
}

const overNATS = `[transport]
transport = "nats"
run_bridge = %t
run_executors = %t
[transport.nats]
url = %q
stream_name = %q
subject_prefix = %q
consumer_name = %q
`

// bridging makes of the program a bridge that does nothing else.
func bridging(url, stream, name string) string {
	return fmt.Sprintf(overNATS, true, false, url, stream, stream, consumer) + fmt.Sprintf("[transport.bridge]\ntransport_name = %q\n", name)
}

// working makes of it a worker that does nothing else.
func working(url, stream string) string {
	return fmt.Sprintf(overNATS, false, true, url, stream, stream, consumer)
}

// overStreams makes of the program a worker of a Redis stream.
func overStreams(stream string) string {
	return fmt.Sprintf("[transport]\ntransport = \"redis\"\n[transport.redis]\nstream = %q\nconsumer_group = %q\n", stream, consumer)
}

// observing returns an [[observers]] table with one action.
func observing(name, entity, condition, action string) string {
	text := fmt.Sprintf("[[observers]]\nname = %q\nentity = %q\n", name, entity)
	if condition != "" {
		text += fmt.Sprintf("condition = %q\n", condition)
	}
	return text + "[[observers.actions]]\n" + action
}

const doNothing = "type = \"noop\"\n"

func postTo(url string) string { return fmt.Sprintf("type = \"webhook\"\nurl = %q\n", url) }
