package handlers

import (
	"context"
	"log/slog"
	"time"

	"github.com/fraiseql/observer/event"
)

// Action does one thing with a delivery, such as a request to a server. Run is called from many goroutines, and again
// for each retry. Its result is an outcome as in package event: nil is done, [event.Permanent] is never tried again,
// anything else is tried later. It returns when ctx ends. An action with a method Timeout() time.Duration ends each attempt
// itself after that time; ctx ends the attempts of the others.
type Action interface {
	Run(ctx context.Context, d *event.Delivery) error
}

// Previewer is an action that can show what it would send, and sends nothing then. The error is the one that Run would
// return before it sends anything, such as for a field that a template misses.
type Previewer interface {
	Preview(d *event.Delivery) (Preview, error)
}

// Preview is what an action would send, with its secrets masked.
type Preview struct {
	Request string         `json:"request"` // such as "POST https://example.com/hooks"
	Fields  []PreviewField `json:"fields"`  // headers, recipients, …
	Body    string         `json:"body"`
}

// PreviewField is one header, recipient or the like.
type PreviewField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fingerprinter is an action that can be skipped when the same was done lately. It is asked where its table has the bool key
// cacheable and the file sets it. Two deliveries have one fingerprint only where Run does the same for both; observer, action
// and tenant need not be in it. It should be a hash: it holds no credential that it could be made to give away. The error is
// the one that Run would return before it does anything.
type Fingerprinter interface {
	Fingerprint(d *event.Delivery) ([]byte, error)
}

// Checker is an action that can find out whether what it needs is there: a server that answers, a function that exists. It
// changes nothing. detail says what was found, such as "localhost:587 answers".
type Checker interface {
	Check(ctx context.Context) (detail string, err error)
}

// RedisUser is an action that may need the Redis of [redis], so that its outage is shown.
type RedisUser interface {
	UsesRedis() bool
}

// Env is what the program gives to every action that it builds.
type Env struct {
	Logger *slog.Logger
	// HTTP sends the requests of all actions; [NewHTTP] builds it.
	HTTP *HTTP
	// Servers are the operator's own; [NewServers] builds them.
	Servers *Servers
	// Timeout is the time for one attempt of an action that sets none.
	Timeout time.Duration
	// Hidden reports whether a key of the action's table holds a secret from the environment; nil: none does.
	Hidden func(key string) bool
}

func (e Env) hides(key string) bool { return e.Hidden != nil && e.Hidden(key) }
