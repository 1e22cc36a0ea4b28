// Package deadletter says what an operator can do with dead letters, whichever transport keeps them. Each transport
// implements [Store]; the conformance suite is in deadlettertest.
package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer/event"
)

var (
	// ErrNotFound says that there is no dead letter of that ID.
	ErrNotFound = errors.New("not found")
	// ErrInWork says that a dead letter is being delivered again at this moment.
	ErrInWork = errors.New("it is being delivered again at this moment: wait for the outcome, see: observer dlq list")
)

// ClassUnreadable is the error class of an event of which only what was known of it is kept.
const ClassUnreadable = "unreadable"

// Letter is one stored dead letter.
type Letter struct {
	ID            int64           `json:"id"`
	EventID       string          `json:"event_id"`
	Observer      string          `json:"observer"` // "" stands for the whole event
	Action        string          `json:"action"`
	Entity        string          `json:"entity"`
	Attempts      int             `json:"attempts"`
	Error         string          `json:"error"`
	ErrorClass    string          `json:"error_class"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	LastFailedAt  time.Time       `json:"last_failed_at"`
	Generation    int             `json:"generation"`
	Retrying      bool            `json:"retrying"`
	Listener      string          `json:"listener"`          // or consumer, whose dead letter it is
	Event         json.RawMessage `json:"event,omitempty"`   // by Get only
	History       []event.Attempt `json:"history,omitempty"` // by Get only

	// While a replay is parked: when it is tried next, and why it failed last. Else the latter are Error and ErrorClass.
	NextAttempt          time.Time `json:"-"`
	LastError, LastClass string    `json:"-"`
}

// Replayable returns why the dead letter cannot be delivered again, nil when it can.
func (l *Letter) Replayable() error {
	return Replayable(l.ID, l.Event != nil && string(l.Event) != "null", l.Error, l.ErrorClass)
}

// Replayable knows by its class what was captured without its data, or could not be read.
func Replayable(id int64, event bool, cause, class string) error {
	switch {
	case !event:
		return fmt.Errorf("dead letter %d holds no event that could be delivered again", id)
	case class == ClassUnreadable:
		return fmt.Errorf("dead letter %d holds no data that could be delivered: %q: write the row again, or emit the event", id, cause)
	}
	return nil
}

// Filter selects dead letters; zero fields select all.
type Filter struct {
	Observer, Class string
	After, Before   time.Time // last failed after, before this
	Limit           int       // 0: 100 for List, all for RetryAll and RemoveAll; Count and Stats know none
	Offset          int       // List only
}

// Group counts the dead letters of one observer, action and class.
type Group struct {
	Observer   string    `json:"observer"` // "" stands for whole events
	Action     string    `json:"action"`
	ErrorClass string    `json:"error_class"`
	Count      int       `json:"count"`
	Oldest     time.Time `json:"oldest"` // the first failure of any
	Newest     time.Time `json:"newest"` // the last failure of any
	Retrying   int       `json:"retrying"`
	// NotReplayable are those at rest that cannot be delivered again.
	NotReplayable int `json:"not_replayable"`
}
