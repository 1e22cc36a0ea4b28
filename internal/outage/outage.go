// Package outage tells of something that keeps failing without filling the log: when it begins, from time to time while
// it lasts, and when it is over.
package outage

import (
	"log/slog"
	"sync"
	"time"
)

// reminder is the time between two lines about one outage.
const reminder = 30 * time.Second

// Log tells of the outages of one thing. It may be used from many goroutines.
type Log struct {
	log          *slog.Logger
	fails, works string

	mu                sync.Mutex // guards what follows
	since, last, told time.Time
	untold            int
}

// New returns a Log that warns with the message fails and says works when all is well again.
func New(log *slog.Logger, fails, works string, args ...any) *Log {
	return &Log{log: log.With(args...), fails: fails, works: works}
}

// Failed notes a failure. One that comes long after the last begins another outage.
func (l *Log) Failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.since.IsZero() || now.Sub(l.last) > reminder {
		l.since, l.told = now, time.Time{}
	}
	l.last = now
	if now.Sub(l.told) < reminder {
		l.untold++
		return
	}
	l.log.Warn(l.fails, slog.Any("error", err), slog.Duration("duration", now.Sub(l.since).Round(time.Millisecond)), slog.Int("repeated", l.untold)) //nolint:sloglint // New's caller gives a constant
	l.told, l.untold = now, 0
}

// OK notes a success.
func (l *Log) OK() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return
	}
	l.log.Info(l.works, slog.Duration("duration", time.Since(l.since).Round(time.Millisecond))) //nolint:sloglint // New's caller gives a constant
	l.since, l.untold = time.Time{}, 0
}
