package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

// letterFields are what a list needs of a dead letter.
var letterFields = []string{"id", "generation", "entity", "tries", "error", "class", "first", "last", "retrying"}

// letterRow is a dead letter and whether its delivery is parked.
type letterRow struct {
	deadletter.Letter
	identity string
	parked   bool
}

// selected reads the dead letters of a filter, whatever its limit and offset, those that failed first in front. It holds
// all of them in memory, without their events.
func (l *DeadLetters) selected(ctx context.Context, f deadletter.Filter) (list []letterRow, err error) {
	ids, err := l.Client.ZRangeByScore(ctx, l.Stream+":dead_letters", &redis.ZRangeBy{Min: bound(f.After, "-inf"), Max: bound(f.Before, "+inf")}).Result()
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	for some := range slices.Chunk(ids, batchSize) {
		rows, err := l.rows(ctx, some)
		if err != nil {
			return nil, fmt.Errorf("read dead letters: %w", err)
		}
		for i := range rows {
			if r := &rows[i]; (f.Observer == "" || r.Observer == f.Observer) && (f.Class == "" || r.ErrorClass == f.Class) {
				list = append(list, *r)
			}
		}
	}
	slices.SortFunc(list, func(a, b letterRow) int {
		return cmp.Or(a.FirstFailedAt.Compare(b.FirstFailedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// bound is an open end of a range of times.
func bound(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return "(" + strconv.FormatInt(t.UnixMicro(), 10)
}

func (l *DeadLetters) rows(ctx context.Context, ids []string) ([]letterRow, error) {
	pipe := l.Client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(ids))
	for i, n := range ids {
		cmds[i] = pipe.HMGet(ctx, l.letter(n), letterFields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	rows := make([]letterRow, 0, len(ids))
	for i, n := range ids {
		if v := cmds[i].Val(); v[0] != nil { // else it went meanwhile
			rows = append(rows, l.row(n, v))
		}
	}
	pipe = l.Client.Pipeline()
	there := make([]*redis.IntCmd, len(rows))
	for i := range rows {
		there[i] = pipe.Exists(ctx, l.delivery(rows[i].identity))
	}
	if _, err := pipe.Exec(ctx); err != nil && len(rows) > 0 {
		return nil, err
	}
	for i := range rows {
		rows[i].parked = there[i].Val() > 0
	}
	return rows, nil
}

func (l *DeadLetters) letter(n string) string    { return l.Stream + ":dead_letters:letter:" + n }
func (l *DeadLetters) delivery(id string) string { return l.Stream + ":retries:delivery:" + id }

func (l *DeadLetters) row(n string, v []any) letterRow {
	text := func(i int) string { s, _ := v[i].(string); return s }
	number := func(i int) int64 { n, _ := strconv.ParseInt(text(i), 10, 64); return n }
	r := letterRow{identity: text(0)}
	r.ID, _ = strconv.ParseInt(n, 10, 64)
	r.EventID, r.Observer, r.Action = partsOf(r.identity)
	r.Generation, r.Entity, r.Attempts, r.Error, r.ErrorClass = int(number(1)), text(2), int(number(3)), text(4), text(5)
	r.FirstFailedAt, r.LastFailedAt = time.UnixMicro(number(6)).UTC(), time.UnixMicro(number(7)).UTC()
	r.Retrying, r.Listener = text(8) == "1", l.Group
	r.LastError, r.LastClass = r.Error, r.ErrorClass
	return r
}

// List implements deadletter.Store.
func (l *DeadLetters) List(ctx context.Context, f deadletter.Filter) (items []deadletter.Letter, total int, err error) {
	rows, err := l.selected(ctx, f)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(rows, func(a, b letterRow) int {
		return cmp.Or(b.LastFailedAt.Compare(a.LastFailedAt), cmp.Compare(b.ID, a.ID))
	})
	if f.Limit <= 0 {
		f.Limit = 100
	}
	from := min(max(f.Offset, 0), len(rows))
	for _, r := range rows[from:min(from+f.Limit, len(rows))] {
		if _, err := l.withReplay(ctx, &r); err != nil {
			return nil, 0, err
		}
		items = append(items, r.Letter)
	}
	return items, len(rows), nil
}

// withReplay adds what a parked replay has added, and returns its attempts.
func (l *DeadLetters) withReplay(ctx context.Context, r *letterRow) (history []event.Attempt, err error) {
	if !r.Retrying || !r.parked {
		return nil, nil
	}
	v, err := l.Client.HMGet(ctx, l.delivery(r.identity), "attempts", "due").Result()
	if err != nil {
		return nil, fmt.Errorf("read replay: %w", err)
	}
	attempts, ok := v[0].(string)
	if !ok { // it succeeded meanwhile
		return nil, nil
	}
	if err := json.Unmarshal([]byte(attempts), &history); err != nil {
		return nil, fmt.Errorf("read replay of dead letter %d: attempts: %w", r.ID, err)
	}
	due, _ := v[1].(string)
	micros, _ := strconv.ParseInt(due, 10, 64)
	r.NextAttempt, r.Attempts = time.UnixMicro(micros).UTC(), len(history)
	if n := len(history); n > 0 {
		r.LastError, r.LastClass = history[n-1].Error, history[n-1].Class
	}
	return history, nil
}

// Count returns how many dead letters the filter selects, whatever its limit and offset.
func (l *DeadLetters) Count(ctx context.Context, f deadletter.Filter) (int, error) {
	if f.Observer == "" && f.Class == "" {
		n, err := l.Client.ZCount(ctx, l.Stream+":dead_letters", bound(f.After, "-inf"), bound(f.Before, "+inf")).Result()
		if err != nil {
			return 0, fmt.Errorf("count dead letters: %w", err)
		}
		return int(n), nil
	}
	rows, err := l.selected(ctx, f)
	return len(rows), err
}

// Get implements deadletter.Store.
func (l *DeadLetters) Get(ctx context.Context, id int64) (*deadletter.Letter, error) {
	n := strconv.FormatInt(id, 10)
	rows, err := l.rows(ctx, []string{n})
	if err != nil {
		return nil, fmt.Errorf("read dead letter: %w", err)
	}
	if len(rows) == 0 {
		return nil, notFound(id)
	}
	r := &rows[0]
	v, err := l.Client.HMGet(ctx, l.letter(n), "event", "attempts").Result()
	if err != nil {
		return nil, fmt.Errorf("read dead letter: %w", err)
	}
	body, ok := v[0].(string)
	attempts, _ := v[1].(string)
	if !ok {
		return nil, notFound(id)
	}
	r.Event = json.RawMessage(body)
	history, err := l.withReplay(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.History = history; history == nil {
		err = json.Unmarshal([]byte(attempts), &r.History)
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: attempts: %w", id, err)
	}
	return &r.Letter, nil
}

func notFound(id int64) error {
	return fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, deadletter.ErrNotFound)
}
