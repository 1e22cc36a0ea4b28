package middleware

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// DeliveryKey is the [CacheKey] of deliveries: one hash over observer, action, tenant and what fingerprint says of the
// request, so that nothing of these can be read from it.
func DeliveryKey(fingerprint func(*event.Delivery) ([]byte, error)) CacheKey {
	return func(msg *message.Message) (string, error) {
		d := event.FromContext(msg.Context())
		request, err := fingerprint(d)
		if err != nil {
			return "", err
		}
		h := sha256.New()
		for _, part := range []string{d.Observer, d.Action, d.Event.TenantID, string(request)} {
			var size [8]byte // keeps "ab", "c" and "a", "bc" apart
			binary.BigEndian.PutUint64(size[:], uint64(len(part)))
			h.Write(size[:])
			h.Write([]byte(part))
		}
		return "action_result:" + hex.EncodeToString(h.Sum(nil)), nil
	}
}
