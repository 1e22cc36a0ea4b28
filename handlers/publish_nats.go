package handlers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/natsconn"
)

// ackTimeout is the time for a stream to acknowledge a message, which takes milliseconds, or a second while it elects a
// leader.
const ackTimeout = 5 * time.Second

// natsTopic is a NATS subject that a JetStream stream takes. Of watermill-nats only the message format is used: its
// publisher takes no context and closes the connection, which is shared.
type natsTopic struct {
	servers *Servers
	subject string
	shown   string
}

var natsFormat wmnats.NATSMarshaler

func (t *natsTopic) request() string { return "publish to NATS subject " + t.shown }

// publish waits until a stream has the message. The stream recognises an attempt that repeats one by its Nats-Msg-Id,
// within its window.
func (t *natsTopic) publish(ctx context.Context, m *message.Message) error {
	wire, err := natsFormat.Marshal(t.subject, m)
	if err != nil {
		return event.Permanent(err)
	}
	wire.Header.Set(nats.MsgIdHdr, m.UUID)
	return t.ask(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.PublishMsg(ctx, wire)
		return err
	})
}

func (t *natsTopic) check(ctx context.Context) (string, error) {
	var stream string
	err := t.ask(ctx, func(ctx context.Context, js jetstream.JetStream) (err error) {
		stream, err = js.StreamNameBySubject(ctx, t.subject)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask NATS which stream takes %s: %w", t.shown, err)
	}
	return fmt.Sprintf("stream %s takes %s", stream, t.shown), nil
}

// ask makes one request of JetStream and turns its error into an outcome.
func (t *natsTopic) ask(ctx context.Context, request func(context.Context, jetstream.JetStream) error) error {
	conn, err := t.servers.natsConn(ctx)
	if err != nil {
		return unopened(ctx, err)
	}
	if down := conn.Down(); down != nil {
		return serverError(ctx, down)
	}
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return serverError(ctx, err)
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, conn.Interrupt)()
	if err := request(ctx, js); err != nil {
		return t.outcome(ctx, conn, err)
	}
	return nil
}

func (t *natsTopic) outcome(ctx context.Context, conn *natsconn.Conn, err error) error {
	var answer *jetstream.APIError
	switch down := conn.Down(); {
	case errors.Is(ctx.Err(), context.Canceled):
		return serverError(ctx, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, nats.ErrNoResponders):
		return event.WithClass(fmt.Errorf("no stream takes %s: create one with this subject, in JetStream", t.shown), "no_stream")
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &answer) && answer.ErrorCode == tooLarge:
		return event.Permanent(event.WithClass(errors.New("the message is larger than the server or the stream allows"), "too_large"))
	case answer != nil:
		return event.WithClass(errors.New("JetStream refuses it: "+answer.Description), "nats_"+strconv.Itoa(int(answer.ErrorCode)))
	case down != nil:
		return serverError(ctx, down)
	case ctx.Err() != nil && strings.Contains(conn.Denied(), strconv.Quote(t.subject)):
		return event.WithClass(fmt.Errorf("the user may not publish to %s", t.shown), "denied")
	}
	return serverError(ctx, err)
}

// tooLarge is the server's code for a message beyond the stream's max_msg_size.
const tooLarge jetstream.ErrorCode = 10054

// unopened is the outcome where there is no connection to use: the time is over, or the configuration is wrong.
func unopened(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return serverError(ctx, err)
	}
	return event.WithClass(err, "config")
}

// serverError turns what a client of NATS or Redis returned, other than a server's answer, into an outcome. A shutdown
// stays recognisable as context.Canceled.
func serverError(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("wait for answer: %w", context.Canceled)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return event.WithClass(errors.New("no answer in time"), "timeout")
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return event.WithClass(err, "auth")
	}
	return event.WithClass(errors.New(shorten(err.Error())), networkClass(err))
}

func (t *natsTopic) endpoint() string { return "nats" }
