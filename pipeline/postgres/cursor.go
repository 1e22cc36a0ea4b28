package postgres

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// position says what has been read: everything that from sees, and of the window from -> to everything up to upTo. An
// empty to means that no window is under way.
type position struct {
	from, to snapshot
	upTo     int64
}

// poisoned, as a number of starts, marks a row that is not started again.
const poisoned = math.MaxInt32

type state int8

const (
	stored   state = iota // pending in the checkpoint, not read yet
	ready                 // read, waits for Fetch
	running               // handed out
	delayed               // nacked, waits for its time
	settled               // acked
	dropped               // was ready when the session ended: to be read again
	orphaned              // nobody will offer it again
)

// entry is one row that was read and is not settled.
type entry struct {
	pk      int64
	id      string
	at      time.Time // when the change was made; zero before the row was read
	prior   int32     // starts without an outcome, by earlier processes
	counted bool      // what is stored says that it was started, whether it was or not
	begun   atomic.Bool
	done    []string // parts that have settled, see window.Tracker
	state   state
	msg     *message.Message
	size    int
	due     time.Time // of a delayed one

	linked     bool
	prev, next *entry
}

// starts is what a checkpoint says about the entry: a clean end starts nothing.
func (e *entry) starts(clean bool) int32 {
	if e.prior != poisoned && !clean && (e.counted || e.state == running && e.begun.Load()) {
		return e.prior + 1
	}
	return e.prior
}

// cursor is the position and the rows behind it that are not settled, in the order in which they were read.
type cursor struct {
	position
	floor       int64 // first row of the window under way that was not running at from
	epoch       int64
	alone       *entry
	first, last *entry
	pending     int
}

func (c *cursor) add(e *entry) {
	e.linked, e.prev, e.next = true, c.last, nil
	if c.last == nil {
		c.first = e
	} else {
		c.last.next = e
	}
	c.last = e
	c.pending++
}

func (c *cursor) remove(e *entry) {
	if !e.linked {
		return
	}
	if e.prev == nil {
		c.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		c.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.linked, e.prev, e.next = false, nil, nil
	c.pending--
}

// image is what the checkpoint row holds.
type image struct {
	position
	pending []int64
	starts  []int32
	done    map[int64][]string // by pending row
	alone   *int64
}

// image returns the checkpoint of this moment.
func (c *cursor) image(clean bool) image {
	list := make([]*entry, 0, c.pending)
	for e := c.first; e != nil; e = e.next {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.pk, b.pk) })
	img := image{position: c.position, pending: make([]int64, len(list)), starts: make([]int32, len(list))}
	for i, e := range list {
		img.pending[i], img.starts[i] = e.pk, e.starts(clean)
		if len(e.done) > 0 {
			if img.done == nil {
				img.done = map[int64][]string{}
			}
			img.done[e.pk] = e.done
		}
	}
	if c.alone != nil && c.alone.linked && !clean {
		img.alone = &c.alone.pk
	}
	return img
}
