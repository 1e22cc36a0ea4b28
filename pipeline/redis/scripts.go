package redis

import (
	"context"
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
func (s *scripts) run(ctx context.Context, script *redis.Script, key string, args ...any) (int, error) {
	return s.batcher.Do(ctx, step{script, key, args})
}

func (s *scripts) send(steps []step) []batch.Answer[int] {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	answers := make([]batch.Answer[int], len(steps))
	all := make([]int, len(steps))
	for i := range all {
		all[i] = i
	}
	unknown := s.pipeline(ctx, steps, all, answers, (*redis.Script).EvalSha)
	if len(unknown) > 0 { // the server has started anew
		s.pipeline(ctx, steps, unknown, answers, (*redis.Script).Eval)
	}
	return answers
}

type evaluate func(s *redis.Script, ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// pipeline runs the picked steps and returns those whose script the server does not know.
func (s *scripts) pipeline(ctx context.Context, steps []step, picked []int, answers []batch.Answer[int], eval evaluate) (unknown []int) {
	p := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(picked))
	for i, n := range picked {
		cmds[i] = eval(steps[n].script, ctx, p, []string{steps[n].key}, steps[n].args...)
	}
	_, _ = p.Exec(ctx) // it returns the first error of cmds
	for i, n := range picked {
		answers[n].Value, answers[n].Err = cmds[i].Int()
		if redis.HasErrorPrefix(answers[n].Err, "NOSCRIPT") {
			unknown = append(unknown, n)
		}
	}
	return unknown
}
