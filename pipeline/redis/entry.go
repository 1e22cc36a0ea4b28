package redis

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// messageOf makes a message of any entry. One that no publisher of ours or of Watermill wrote is poison: it becomes a dead
// letter, and stops nobody. What is not the JSON of an event is left to the reader of the message.
func messageOf(stream string, entry redis.XMessage) *message.Message {
	msg, err := marshaller.Unmarshal(entry.Values)
	if err != nil {
		return foreign(stream, entry, err)
	}
	e, err := event.Decode(msg.Payload)
	if err != nil {
		return msg
	}
	if gjson.GetBytes(msg.Payload, "id").Str == "" {
		e.ID = msg.UUID // the same each time
	}
	msg.SetContext(event.WithEvent(context.Background(), e))
	return msg
}

func foreign(stream string, entry redis.XMessage, err error) *message.Message {
	fields, _ := json.Marshal(entry.Values) // strings always marshal
	msg := message.NewMessage(stream+":"+entry.ID, fields)
	msg.Metadata.Set(window.MetadataPoison, fmt.Sprintf("entry %s of stream %s was not written by a publisher of events: %v", entry.ID, stream, err))
	return msg
}
