package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/redisconn"
)

// redisTopic is a Redis stream. It grows until somebody trims it: what a reader has not read yet only its owner knows.
type redisTopic struct {
	servers *Servers
	stream  string
	shown   string
}

var redisFormat redisstream.DefaultMarshallerUnmarshaller

func (t *redisTopic) request() string { return "XADD " + t.shown }

func (t *redisTopic) publish(ctx context.Context, m *message.Message) error {
	values, err := redisFormat.Marshal(t.stream, m)
	if err != nil {
		return event.Permanent(err)
	}
	client, err := t.servers.Redis()
	if err != nil {
		return unopened(ctx, err)
	}
	return redisError(ctx, client.XAdd(ctx, &redis.XAddArgs{Stream: t.stream, Values: values}).Err())
}

func (t *redisTopic) check(ctx context.Context) (string, error) { return t.servers.pingRedis(ctx) }

// redisError turns what the client returned into an outcome.
func redisError(ctx context.Context, err error) error {
	var answer redis.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrPoolTimeout):
		return event.WithClass(errors.New("every connection is in use (raise pool_size in [redis])"), "timeout")
	case !errors.As(err, &answer):
		return serverError(ctx, err)
	}
	code, text := answerCode(answer)
	switch err := errors.New(text); code {
	case "WRONGTYPE":
		return event.Permanent(event.WithClass(err, "redis_wrongtype"))
	case "NOAUTH", "WRONGPASS":
		return event.WithClass(err, "auth")
	case "NOPERM":
		return event.WithClass(err, "denied")
	default:
		return event.WithClass(err, "redis_"+strings.ToLower(code))
	}
}

// answerCode returns the first word of an error that Redis answered, and its text without arguments of the command, which
// come from rows.
func answerCode(answer redis.Error) (code, text string) {
	text, _, _ = strings.Cut(answer.Error(), ", with args")
	code, _, _ = strings.Cut(text, " ")
	if strings.ToUpper(code) != code {
		code = "ERR"
	}
	return code, shorten(text)
}

// pingRedis asks whether the server answers.
func (s *Servers) pingRedis(ctx context.Context) (string, error) {
	client, err := s.Redis()
	if err != nil {
		return "", err
	}
	if err := redisError(ctx, redisconn.Ping(ctx, client)); err != nil {
		return "", fmt.Errorf("PING: %w", err)
	}
	return s.cfg.Redis.Server() + " answers", nil
}

func (t *redisTopic) endpoint() string { return "redis" }
