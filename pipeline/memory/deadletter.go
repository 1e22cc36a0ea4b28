package memory

import (
	"context"
	"sync"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// DeadLetters keeps dead letters until the process ends.
type DeadLetters struct {
	mu   sync.Mutex // guards list
	list []*event.Delivery
}

var _ middleware.DeadLetters = (*DeadLetters)(nil)

// Put implements middleware.DeadLetters.
func (l *DeadLetters) Put(_ context.Context, d *event.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, there := range l.list {
		if there.ID() == d.ID() {
			l.list[i] = d
			return nil
		}
	}
	l.list = append(l.list, d)
	return nil
}

// List returns the dead letters, oldest first.
func (l *DeadLetters) List() []*event.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*event.Delivery(nil), l.list...)
}
