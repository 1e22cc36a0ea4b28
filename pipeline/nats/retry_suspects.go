package nats

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	natsgo "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// What comes a second time was in the hands of a worker that may have died of it. Suspects are handed out one at a time,
// each with a mark that is stored before, and one that has a mark already while nothing else of this queue follows. Only
// such marks count as starts, so that what was merely fetched beside a killer is never buried for it.

const startsHeader = "Observer-Starts"

var errStarts = errors.New("the process died each time while this delivery ran")

// nextSuspect hands out at most one, and none while another one is out.
func (q *RetryQueue) nextSuspect(ctx context.Context, busy map[string]bool) ([]window.Item, error) {
	for {
		h := q.takeSuspect(busy)
		if h == nil {
			return nil, nil
		}
		item, err := q.start(context.WithoutCancel(ctx), h)
		if err != nil {
			q.mu.Lock()
			q.suspects = append(q.suspects, h)
			q.suspect, q.alone = nil, false
			q.mu.Unlock()
			return nil, err
		}
		if item != nil {
			return []window.Item{*item}, nil
		}
		q.mu.Lock()
		q.suspect, q.alone = nil, false
		q.mu.Unlock()
	}
}

// takeSuspect makes the first of those whose endpoint is free the one that is out.
func (q *RetryQueue) takeSuspect(busy map[string]bool) *hand {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.suspect != nil {
		return nil
	}
	for i, h := range q.suspects {
		if !busy[dispatch.Topic(h.parkedEntry.Observer, h.parkedEntry.Action)] {
			q.suspects = append(q.suspects[:i:i], q.suspects[i+1:]...)
			q.suspect = h
			return h
		}
	}
	return nil
}

// start marks the start of a suspect, or buries it when it was started often enough.
func (q *RetryQueue) start(ctx context.Context, h *hand) (*window.Item, error) {
	if current, err := q.current(ctx, h, true); err != nil || !current {
		return nil, err
	}
	starts := 1
	mark, err := lastMessage(ctx, q.stream, q.subjects.start(h.key))
	if err != nil {
		return nil, wrap("mark start", err)
	}
	if mark != nil {
		before, err := strconv.Atoi(mark.Header.Get(startsHeader))
		if err != nil {
			return nil, wrap("read start mark", err)
		}
		starts += before
	}
	if starts > max(1, q.cfg.MaxDeliver-1) { // and one that was presumed
		return nil, q.bury(ctx, h, errStarts, "poison")
	}
	d, err := h.parkedEntry.delivery()
	if err != nil {
		return nil, q.bury(ctx, h, err, "unreadable")
	}
	msg := &natsgo.Msg{Subject: q.subjects.start(h.key), Header: natsgo.Header{startsHeader: {strconv.Itoa(starts)}}}
	if _, err := q.js.PublishMsg(ctx, msg); err != nil {
		return nil, wrap("mark start", err)
	}
	h.marked = true
	q.mu.Lock()
	q.alone = starts > 1
	q.mu.Unlock()
	q.cfg.Log.Warn("delivery was in work when its process died: it runs alone", slog.String("event_id", h.parkedEntry.EventID),
		slog.String("observer", h.parkedEntry.Observer), slog.String("action", h.parkedEntry.Action))
	return q.handOut(h, d), nil
}

func (q *RetryQueue) suspectState() (waiting, alone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.suspects) > 0, q.alone
}
