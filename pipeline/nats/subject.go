package nats

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
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

// subject is where an event is published that is kept in order with those of the same key.
func (c Config) subject(entity string, kind event.Type, key string) string {
	s := c.SubjectPrefix + "." + token(entity) + "." + token(string(kind))
	if n := c.JetStream.Partitions; n > 0 {
		s += "." + strconv.Itoa(n) + "." + strconv.Itoa(partitionOf(key, n))
	}
	return s
}

// subjectOf is where e is published.
func (c Config) subjectOf(e *event.Event) string { return c.subject(e.Entity, e.Type, orderKey(e)) }

// streamSubject takes all that is published. With partitions it takes nothing of a publisher that has another number of them.
func (c Config) streamSubject() string {
	if c.JetStream.Partitions == 0 {
		return c.SubjectPrefix + ".>"
	}
	return fmt.Sprintf("%s.*.*.%d.*", c.SubjectPrefix, c.JetStream.Partitions)
}

// partitionsIn returns how many partitions a stream of ours has by its subjects; ok is false when they are not ours.
func (c Config) partitionsIn(subjects []string) (n int, ok bool) {
	for _, n = range []int{0, partitionsToken(subjects)} {
		c.JetStream.Partitions = n
		if slices.Equal(subjects, []string{c.streamSubject()}) {
			return n, true
		}
	}
	return 0, false
}

// partitionsToken reads the last token but one.
func partitionsToken(subjects []string) int {
	if len(subjects) != 1 {
		return 0
	}
	tokens := strings.Split(subjects[0], ".")
	n, _ := strconv.Atoi(tokens[max(0, len(tokens)-2)]) // 0: none
	return n
}

// filter takes the subjects of a topic: an entity, or [AllTopics].
func (c Config) filter(topic string) string {
	if topic == AllTopics {
		return c.SubjectPrefix + ".>"
	}
	return c.SubjectPrefix + "." + token(topic) + ".>"
}

// partitionFilter takes the subjects of a partition.
func (c Config) partitionFilter(partition int) string {
	return fmt.Sprintf("%s.*.*.%d.%d", c.SubjectPrefix, c.JetStream.Partitions, partition)
}

// consumer names the durable consumer of a group for a topic.
func consumer(group, topic string) string {
	if topic == AllTopics {
		return group
	}
	return group + "_" + token(topic)
}

// consumers names those that the workers of a group read: one, or one for each partition.
func consumers(group string, partitions int) []string {
	if partitions == 0 {
		return []string{consumer(group, AllTopics)}
	}
	names := make([]string, partitions)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d-%d", group, partitions, i)
	}
	return names
}

// orderKey is what events have in common that are kept in order. One without an entity id has that with no other.
func orderKey(e *event.Event) string {
	if e.EntityID == "" {
		return e.ID
	}
	return e.Key()
}

// partitionOf is the same in every version and on every machine.
func partitionOf(key string, partitions int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))                // never fails
	return int(h.Sum32() % uint32(partitions)) //nolint:gosec // at most 256
}
