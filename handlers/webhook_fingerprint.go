package handlers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// Fingerprint implements [Fingerprinter]: a hash of the method, the URL without its user, the headers of the file that hold no
// credential, the exact body and the keys of the action.
func (w *Webhook) Fingerprint(d *event.Delivery) ([]byte, error) {
	u, err := w.target.of(d.Event)
	if err != nil {
		return nil, err
	}
	open := *u
	open.User = nil
	parts := [][]byte{w.keys, []byte(w.method), []byte(open.String())}
	for _, t := range w.headers.dynamic {
		value, err := t.Render(d.Event)
		if err != nil {
			return nil, err
		}
		parts = append(parts, []byte(t.name), value)
	}
	if w.payload != nil {
		body, err := w.payload(d.Event)
		if err != nil {
			return nil, err
		}
		parts = append(parts, body)
	}
	return hash(parts), nil
}

// hash is one over all parts, that keeps "ab", "c" and "a", "bc" apart.
func hash(parts [][]byte) []byte {
	h := sha256.New()
	for _, part := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

// hashKeys hashes the table of a cacheable action, in which fixed headers stand. Its credentials stay out: a header that is
// one by its name or by a ${…}; the URL, which is a part of its own, and secrets to sign with, of which it has the names alone.
func hashKeys(cfg *WebhookConfig, headers *headers, env Env) ([]byte, error) {
	open := *cfg
	open.Headers = maps.Clone(cfg.Headers)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(open.Headers)) {
		if !credential.MatchString(name) && !env.hides(headerKey(name)) {
			continue
		}
		open.Headers[name] = secret.Mask
		if headers.templates[http.CanonicalHeaderKey(name)] != nil {
			errs = append(errs, &KeyError{
				Key: headerKey(name), Err: errors.New("is a credential with placeholders, so that two requests that look the same may not be"),
				Hint: "remove cacheable, or the placeholders",
			})
		}
	}
	text, err := json.Marshal(open)
	return hash([][]byte{text}), errors.Join(append(errs, err)...)
}

// headerKey is the key of a header, as the configuration writes its path.
func headerKey(name string) string {
	if !bareName.MatchString(name) {
		name = strconv.Quote(name)
	}
	return "headers." + name
}

var bareName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// credential matches the names of headers that tell who asks.
var credential = regexp.MustCompile(`(?i)(^|-)auth(-|$)|authorization|cookie|token|secret|password|credential|api-?key`)
