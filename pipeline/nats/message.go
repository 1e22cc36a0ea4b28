package nats

import (
	"context"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// uuidHeader is in which the NATSMarshaler of watermill-nats keeps a message's UUID.
const uuidHeader = "_watermill_message_uuid"

// marshal makes of a message what watermill-nats can read as well. The server stores one of several with one UUID and
// subject that come within the stream's duplicates window.
func marshal(subject string, msg *message.Message) *natsgo.Msg {
	header := make(natsgo.Header, len(msg.Metadata)+3)
	for key, value := range msg.Metadata {
		header.Set(key, value)
	}
	header.Set(uuidHeader, msg.UUID)
	header.Set(jetstream.MsgIDHeader, subject+" "+msg.UUID)
	return &natsgo.Msg{Subject: subject, Header: header, Data: msg.Payload}
}

func marshalEvent(subject string, e *event.Event) *natsgo.Msg {
	header := make(natsgo.Header, 3)
	header.Set(uuidHeader, e.ID)
	header.Set(jetstream.MsgIDHeader, e.ID)
	return &natsgo.Msg{Subject: subject, Header: header, Data: e.JSON()}
}

// unmarshal reads a message that any publisher may have written. One without an id gets one of its place in the stream.
func unmarshal(m jetstream.Msg, place *jetstream.MsgMetadata) *message.Message {
	header := m.Headers()
	id := header.Get(uuidHeader)
	if id == "" {
		id = header.Get(jetstream.MsgIDHeader)
	}
	if id == "" {
		at := fmt.Sprintf("%s %d %d", place.Stream, place.Sequence.Stream, place.Timestamp.UnixNano())
		id = uuid.NewSHA1(uuid.NameSpaceOID, []byte(at)).String()
	}
	msg := message.NewMessage(id, m.Data())
	for key, values := range header {
		if len(values) > 0 && key != uuidHeader && !strings.HasPrefix(key, "Nats-") {
			msg.Metadata.Set(key, values[0])
		}
	}
	delete(msg.Metadata, window.MetadataPoison) // only the reader says so
	delete(msg.Metadata, window.MetadataPoisonClass)
	return msg
}

// decode attaches the event of a message. What is none becomes a dead letter: it would be none the next time as well.
func decode(msg *message.Message) {
	e, err := event.Decode(msg.Payload)
	if err != nil {
		msg.Metadata.Set(window.MetadataPoison, err.Error())
		return
	}
	if gjson.GetBytes(msg.Payload, "id").String() == "" { // Decode's is another each time
		e.ID = msg.UUID
	}
	msg.UUID, msg.Payload = e.ID, e.JSON()
	msg.SetContext(event.WithEvent(context.Background(), e))
}
