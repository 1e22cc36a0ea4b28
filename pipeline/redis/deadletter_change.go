package redis

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// replayLetters parks dead letters under their next generation, due now, in their order, and returns how many. Those whose
// delivery is parked are left alone.
var replayLetters = redis.NewScript(prelude + `
local t, parked = now(), 0
for _, n in ipairs(ARGV) do
  local l = redis.call('HMGET', letter(n), 'id', 'generation', 'entity', 'event', 'attempts', 'class')
  if l[1] and l[6] ~= '` + deadletter.ClassUnreadable + `' and redis.call('EXISTS', key(l[1])) == 0 then
    local observer, action = string.match(l[1], '^[^\31]*\31([^\31]*)\31(.*)$')
    put(l[1], observer .. '/' .. action, '', l[2] + 1, l[3], l[4], l[5], t + parked)
    redis.call('HSET', letter(n), 'retrying', 1, 'generation', l[2] + 1)
    parked = parked + 1
  end
end
return parked`)

// removeLetter deletes a dead letter and its parked replay, unless a living worker has that: 2; 0 when it is not there.
var removeLetter = redis.NewScript(prelude + `
local l = redis.call('HMGET', letter(ARGV[1]), 'id', 'retrying', 'generation')
if not l[1] then return 0 end
local replay = redis.call('HGET', key(l[1]), 'generation')
if l[2] == '1' and replay and tonumber(replay) >= tonumber(l[3]) then
  local till = redis.call('ZSCORE', R .. ':claimed', l[1])
  if till and tonumber(till) > now() then return 2 end
  remove(l[1])
end
bury(ARGV[1], l[1])
return 1`)

// removeLetters deletes dead letters whose delivery is not parked, and returns how many.
var removeLetters = redis.NewScript(prelude + `
local removed = 0
for _, n in ipairs(ARGV) do
  local id = redis.call('HGET', letter(n), 'id')
  if id and redis.call('EXISTS', key(id)) == 0 then
    bury(n, id)
    removed = removed + 1
  end
end
return removed`)

// Retry implements deadletter.Store.
func (l *DeadLetters) Retry(ctx context.Context, id int64) (parked bool, err error) {
	letter, err := l.Get(ctx, id)
	if err != nil {
		return false, err
	}
	if err := letter.Replayable(); err != nil {
		return false, err
	}
	n, err := replayLetters.Run(ctx, l.Client, []string{l.Stream}, id).Int()
	if err != nil {
		return false, fmt.Errorf("retry dead letter: %w", err)
	}
	return n > 0, nil
}

// Remove implements deadletter.Store.
func (l *DeadLetters) Remove(ctx context.Context, id int64) (*deadletter.Letter, error) {
	letter, err := l.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	switch n, err := removeLetter.Run(ctx, l.Client, []string{l.Stream}, id).Int(); {
	case err != nil:
		return nil, fmt.Errorf("remove dead letter: %w", err)
	case n == 0:
		return nil, notFound(id) // it went meanwhile
	case n == 2:
		return nil, fmt.Errorf("dead letter %d: %w", id, deadletter.ErrInWork)
	}
	return letter, nil
}

func (r *letterRow) ready() bool { return r.ErrorClass != deadletter.ClassUnreadable && !r.parked }

func (r *letterRow) atRest() bool { return !r.parked }

// RetryAll implements deadletter.Store.
func (l *DeadLetters) RetryAll(ctx context.Context, f deadletter.Filter, told func(int)) (parked int, err error) {
	return l.each(ctx, f, (*letterRow).ready, replayLetters, told)
}

// RemoveAll implements deadletter.Store.
func (l *DeadLetters) RemoveAll(ctx context.Context, f deadletter.Filter, told func(int)) (removed int, err error) {
	return l.each(ctx, f, (*letterRow).atRest, removeLetters, told)
}

func (l *DeadLetters) each(ctx context.Context, f deadletter.Filter, fits func(*letterRow) bool, script *redis.Script, told func(int)) (done int, err error) {
	rows, err := l.fitting(ctx, f, fits)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(rows, batchSize) {
		ids := make([]any, len(some))
		for i := range some {
			ids[i] = some[i].ID
		}
		n, err := script.Run(ctx, l.Client, []string{l.Stream}, ids...).Int()
		if err != nil {
			return done, fmt.Errorf("change dead letters: %w", err)
		}
		done += n
		if told != nil {
			told(done)
		}
	}
	return done, nil
}

func (l *DeadLetters) fitting(ctx context.Context, f deadletter.Filter, fits func(*letterRow) bool) ([]letterRow, error) {
	rows, err := l.selected(ctx, f)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r letterRow) bool { return !fits(&r) })
	if f.Limit > 0 {
		rows = rows[:min(f.Limit, len(rows))]
	}
	return rows, nil
}
