package nats

import (
	"fmt"
	"strings"

	"github.com/fraiseql/observer/event"
)

// AllTopics is the topic that stands for the events of every entity.
const AllTopics = "*"

// token makes one token of a subject of any text: what is none of A-Z, a-z, 0-9, _ and - becomes =XX, its bytes in hex.
func token(text string) string {
	if text == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// subject is where an event of an entity is published.
func (c Config) subject(entity string, kind event.Type) string {
	return c.SubjectPrefix + "." + token(entity) + "." + token(string(kind))
}

// filter takes the subjects of a topic: an entity, or [AllTopics].
func (c Config) filter(topic string) string {
	if topic == AllTopics {
		return c.SubjectPrefix + ".>"
	}
	return c.SubjectPrefix + "." + token(topic) + ".>"
}

// consumer names the durable consumer of a group for a topic.
func consumer(group, topic string) string {
	if topic == AllTopics {
		return group
	}
	return group + "_" + token(topic)
}
