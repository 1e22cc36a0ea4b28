package memory

import (
	"context"
	"sync"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// DeadLetters keeps dead letters until the process ends.
type DeadLetters struct {
	mu    sync.Mutex // guards what follows
	list  []*event.Delivery
	index map[identity]int // places in list
}

// identity is what there is one dead letter of.
type identity struct{ event, observer, action string }

var _ middleware.DeadLetters = (*DeadLetters)(nil)

// Put implements middleware.DeadLetters.
func (l *DeadLetters) Put(_ context.Context, d *event.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := identity{d.Event.ID, d.Observer, d.Action}
	if i, there := l.index[id]; there {
		l.list[i] = d
		return nil
	}
	if l.index == nil {
		l.index = map[identity]int{}
	}
	l.index[id] = len(l.list)
	l.list = append(l.list, d)
	return nil
}

// List returns the dead letters, oldest first.
func (l *DeadLetters) List() []*event.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*event.Delivery(nil), l.list...)
}
