package tracing

import (
	"log/slog"
	"sync"
	"time"
)

// pause is the least time between two lines about errors of the exporter.
const pause = time.Minute

// quiet logs the errors of OpenTelemetry without filling the log.
type quiet struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	told   time.Time
	untold int
	closed bool
}

// Handle implements otel.ErrorHandler.
func (q *quiet) Handle(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if now := time.Now(); q.told.IsZero() || now.Sub(q.told) >= pause {
		q.log.Warn("spans not sent, deliveries go on", slog.Any("error", err), slog.Int("repeated", q.untold))
		q.told, q.untold = now, 0
		return
	}
	q.untold++
}

// close ends the logging: what hangs may fail after the program has said its last word.
func (q *quiet) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
