package redis

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/internal/batch"
)

// batchLimit bounds one pipeline: Redis runs it between the commands of others, but keeps all its answers until the end.
const batchLimit = 256

// step is one run of a script on one key.
type step struct {
	script *redis.Script
	key    string
	args   []any
	// quick is a plain command that is tried before: where it writes, the script would have returned 0. Nil: there is none.
	quick []any
}

// scripts runs steps of concurrent callers in one pipeline.
type scripts struct {
	client  redis.UniversalClient
	timeout time.Duration // of one pipeline
	batcher *batch.Batcher[step, int]
}

func newScripts(client redis.UniversalClient, timeout time.Duration) *scripts {
	s := &scripts{client: client, timeout: timeout}
	s.batcher = batch.New(batchLimit, s.send)
	return s
}

// run returns the number that the script returns.
func (s *scripts) run(ctx context.Context, one step) (int, error) { return s.batcher.Do(ctx, one) }

func (s *scripts) send(steps []step) []batch.Answer[int] {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	answers := make([]batch.Answer[int], len(steps))
	left := make([]int, len(steps))
	for i := range left {
		left[i] = i
	}
	for _, way := range []way{quickly, bySum, inFull} {
		if left = s.pipeline(ctx, steps, left, answers, way); len(left) == 0 {
			break
		}
	}
	return answers
}

// way is one of the ways to send a step; each leaves some to the next.
type way func(ctx context.Context, s step, p redis.Pipeliner) *redis.Cmd

func quickly(ctx context.Context, s step, p redis.Pipeliner) *redis.Cmd {
	if s.quick == nil {
		return bySum(ctx, s, p)
	}
	return p.Do(ctx, s.quick...)
}

func bySum(ctx context.Context, s step, p redis.Pipeliner) *redis.Cmd {
	return s.script.EvalSha(ctx, p, []string{s.key}, s.args...)
}

// inFull is for a server that has started anew and knows no script.
func inFull(ctx context.Context, s step, p redis.Pipeliner) *redis.Cmd {
	return s.script.Eval(ctx, p, []string{s.key}, s.args...)
}

// pipeline sends the picked steps and returns those that are still to be answered.
func (s *scripts) pipeline(ctx context.Context, steps []step, picked []int, answers []batch.Answer[int], send way) (left []int) {
	p := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(picked))
	for i, n := range picked {
		cmds[i] = send(ctx, steps[n], p)
	}
	_, _ = p.Exec(ctx) // it returns the first error of cmds
	for i, n := range picked {
		a := &answers[n]
		switch value, err := cmds[i].Result(); {
		case errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOSCRIPT"):
			a.Err = err
			left = append(left, n)
		case value == "OK": // of a quick one
			a.Value, a.Err = 0, nil
		default:
			a.Value, a.Err = cmds[i].Int()
		}
	}
	return left
}
