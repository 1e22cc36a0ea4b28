package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// Publish is the action that puts a delivery into a topic, as a message that stock Watermill subscribers read. It is done
// when the server has acknowledged the message. Where the acknowledgement was lost, the next attempt may put a second one
// there; both have the same UUID, by which a reader knows them.
type Publish struct {
	topic   topic
	payload func(*event.Event) ([]byte, error)
	secret  bool // the payload holds what must not be shown
}

// topic is where a message goes.
type topic interface {
	// publish returns an outcome as in package event.
	publish(ctx context.Context, m *message.Message) error
	check(ctx context.Context) (detail string, err error)
	endpoint() string
	// request is what publish does, in words.
	request() string
}

// NewPublish builds the action from its keys.
func NewPublish(cfg *PublishConfig, env Env) (Action, error) {
	if env.Servers == nil {
		return nil, errors.New("build publish action: no servers are given")
	}
	p := &Publish{secret: env.hides("body_template")}
	var topicErr, payloadErr error
	p.topic, topicErr = newTopic(cfg, env)
	p.payload, payloadErr = newPayload(&WebhookConfig{BodyTemplate: cfg.BodyTemplate})
	if err := errors.Join(topicErr, payloadErr); err != nil {
		return nil, err
	}
	return p, nil
}

func newTopic(cfg *PublishConfig, env Env) (topic, error) {
	server, err := publishServer(cfg.Server, env.Servers)
	if err == nil {
		err = checkTopic(server, cfg.Topic)
	}
	if err != nil {
		return nil, err
	}
	shown := cfg.Topic
	if env.hides("topic") {
		shown = secret.Mask
	}
	if server == "nats" {
		return &natsTopic{servers: env.Servers, subject: cfg.Topic, shown: shown}, nil
	}
	return &redisTopic{servers: env.Servers, stream: cfg.Topic, shown: shown}, nil
}

// publishServer returns the server that is meant: the one that is named, else the only one that is configured.
func publishServer(name string, s *Servers) (string, error) {
	nats, redis := s.cfg.NATS != nil, s.cfg.Redis != nil
	switch {
	case name == "nats" && !nats:
		return "", &KeyError{Key: "server", Err: errNoNATS}
	case name == "redis" && !redis:
		return "", &KeyError{Key: "server", Err: errNoRedis}
	case name == "nats", name == "redis":
		return name, nil
	case name != "":
		return "", &KeyError{Key: "server", Err: errors.New("is no server to publish to"), Hint: `write "nats" or "redis"`}
	case nats && redis:
		return "", &KeyError{Key: "server", Err: errors.New("both NATS and Redis are configured"), Hint: `write server = "nats" or server = "redis"`}
	case nats:
		return "nats", nil
	case redis:
		return "redis", nil
	}
	return "", &KeyError{Key: "topic", Err: errors.New("no server to publish to is configured"), Hint: "set url in [transport.nats] or in [redis]"}
}

// checkTopic refuses what names no single topic.
func checkTopic(server, topic string) error {
	wrong := func(message, hint string) error {
		return &KeyError{Key: "topic", Err: errors.New(message), Hint: hint}
	}
	switch {
	case topic == "":
		return wrong("is empty", "write the NATS subject or the Redis stream")
	case strings.Contains(topic, "{{"):
		return wrong("holds a placeholder, and what comes from a row is never an address", "write the topic as it is, and the field into body_template")
	case strings.ContainsFunc(topic, unicode.IsControl):
		return wrong("holds a control character", "write the topic on one line")
	case server == "redis":
		return nil
	case strings.ContainsFunc(topic, unicode.IsSpace):
		return wrong("holds a space, which no NATS subject may", "write a subject such as orders.shipped")
	case strings.ContainsAny(topic, "*>"):
		return wrong("holds a wildcard, and a message has one subject", "write a subject such as orders.shipped")
	case strings.HasPrefix(topic, "."), strings.HasSuffix(topic, "."), strings.Contains(topic, ".."):
		return wrong("has an empty token between its dots", "write a subject such as orders.shipped")
	case topic == "$JS", topic == "$SYS", strings.HasPrefix(topic, "$JS."), strings.HasPrefix(topic, "$SYS."):
		return wrong("is a subject of the server itself", "write a subject such as orders.shipped")
	}
	return nil
}

// Endpoint names the server.
func (p *Publish) Endpoint() string { return p.topic.endpoint() }

// UsesRedis implements [RedisUser].
func (p *Publish) UsesRedis() bool {
	_, ok := p.topic.(*redisTopic)
	return ok
}

// Run publishes the delivery once.
func (p *Publish) Run(ctx context.Context, d *event.Delivery) error {
	m, err := p.message(d)
	if err != nil {
		return err
	}
	if err := p.topic.publish(ctx, m); err != nil {
		return fmt.Errorf("%s: %w", p.topic.request(), err)
	}
	return nil
}

func (p *Publish) message(d *event.Delivery) (*message.Message, error) {
	payload, err := p.payload(d.Event)
	if err != nil {
		return nil, err
	}
	m := message.NewMessage(d.ID(), payload)
	for _, f := range messageMetadata(d) {
		m.Metadata.Set(f.Name, f.Value)
	}
	return m, nil
}

// messageMetadata is what a reader may choose by without decoding the payload.
func messageMetadata(d *event.Delivery) []PreviewField {
	return []PreviewField{
		{"event_type", string(d.Event.Type)},
		{"entity_type", d.Event.Entity},
		{"event_id", d.Event.ID},
		{"observer", d.Observer},
		{"action", d.Action},
	}
}

// Preview implements [Previewer].
func (p *Publish) Preview(d *event.Delivery) (Preview, error) {
	payload, err := p.payload(d.Event)
	if err != nil {
		return Preview{}, err
	}
	if p.secret {
		payload = []byte(secret.Mask)
	}
	return Preview{Request: p.topic.request(), Fields: messageMetadata(d), Body: string(payload)}, nil
}

// Check implements [Checker].
func (p *Publish) Check(ctx context.Context) (string, error) { return p.topic.check(ctx) }
