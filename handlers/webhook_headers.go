package handlers

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/http1"
)

// headers are those of a webhook request: the same for every request, from templates, and our own.
type headers struct {
	fixed     map[string]string
	templates map[string]*Template
	list      []http1.Field // fixed, by name
	dynamic   []namedTemplate
	signer    *signer // nil: unsigned
}

type namedTemplate struct {
	name string
	*Template
}

// reserved are the headers that carry the request itself, or that receivers rely on.
var reserved = []string{
	"Connection", "Content-Length", "Host", "Idempotency-Key", "Keep-Alive", "Proxy-Connection", "Te", "Traceparent", "Tracestate",
	"Trailer", "Transfer-Encoding", "Upgrade", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func newHeaders(extra map[string]string, userAgent string) (*headers, error) {
	h := &headers{
		fixed:     map[string]string{"Content-Type": "application/json", "User-Agent": userAgent},
		templates: map[string]*Template{},
	}
	var errs []error
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		key := http.CanonicalHeaderKey(name)
		err := h.add(name, extra[name])
		if other, twice := seen[key]; twice {
			err = fmt.Errorf("is the same header as %s: keep one of them", other)
		}
		if err != nil {
			errs = append(errs, &KeyError{Key: headerKey(name), Err: err})
		}
		seen[key] = name
	}
	return h, errors.Join(errs...)
}

// add never repeats the value in an error: it may be a token.
func (h *headers) add(name, value string) error {
	key := http.CanonicalHeaderKey(name)
	switch {
	case !headerName.MatchString(name):
		return errors.New("is not the name of a header")
	case slices.Contains(reserved, key):
		return errors.New("is set by observer and cannot be changed")
	}
	t, err := CompileTemplate(value, Header)
	if err != nil {
		return err
	}
	if !t.Static() {
		if key == "Content-Type" {
			return errors.New("cannot hold placeholders: it decides how the body is encoded")
		}
		h.templates[key] = t
		delete(h.fixed, key)
		return nil
	}
	if hasControl(value) {
		return errControl
	}
	h.fixed[key] = value
	return nil
}

// authorize adds the user and password of the URL, unless the file sets Authorization.
func (h *headers) authorize(t *target) {
	value := basicAuth(t.fixed)
	if value == "" || h.fixed["Authorization"] != "" || h.templates["Authorization"] != nil {
		return
	}
	h.fixed["Authorization"] = value
}

// arrange is called once, before the first request.
func (h *headers) arrange() {
	for _, name := range slices.Sorted(maps.Keys(h.fixed)) {
		h.list = append(h.list, http1.Field{Name: name, Value: h.fixed[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(h.templates)) {
		h.dynamic = append(h.dynamic, namedTemplate{name, h.templates[name]})
	}
}

// of returns the headers for a delivery. Our own come last.
func (h *headers) of(d *event.Delivery, body []byte) ([]http1.Field, error) {
	all := make([]http1.Field, 0, len(h.list)+len(h.dynamic)+4)
	all = append(all, h.list...)
	for _, t := range h.dynamic {
		value, err := t.Render(d.Event)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", t.name, err)
		}
		all = append(all, http1.Field{Name: t.name, Value: string(value)})
	}
	id, now := d.ID(), timestamp()
	all = append(all,
		http1.Field{Name: "Webhook-Id", Value: id},
		http1.Field{Name: "Idempotency-Key", Value: id},
		http1.Field{Name: "Webhook-Timestamp", Value: now})
	if h.signer != nil {
		all = append(all, http1.Field{Name: "Webhook-Signature", Value: h.signer.sign(id, now, body)})
	}
	return all, nil
}

// bodyPosition says how the body is encoded: as its Content-Type says, which is JSON where none is given.
func bodyPosition(extra map[string]string) Position {
	for name, value := range extra {
		if !strings.EqualFold(name, "Content-Type") {
			continue
		}
		switch kind, _, _ := mime.ParseMediaType(value); {
		case kind == "application/json" || strings.HasSuffix(kind, "+json"):
			return JSONBody
		case kind == "application/x-www-form-urlencoded":
			return Form
		default:
			return Plain
		}
	}
	return JSONBody
}
