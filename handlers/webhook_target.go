package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// target is the address of a webhook. Its scheme and host are the operator's; only what follows may come from a row.
type target struct {
	origin   string    // scheme and host, which is all that errors show
	fixed    *url.URL  // the whole address when template is nil
	template *Template // nil when there is no placeholder
	hidden   bool      // the address came from the environment, as a secret does
}

// addressKeys are the two keys of which one gives the address of an action.
type addressKeys struct {
	key      string
	url      secret.String
	envKey   string
	variable string
}

func newTarget(keys addressKeys, env Env) (*target, error) {
	key, raw := keys.key, keys.url.Reveal()
	if raw == "" && keys.variable != "" {
		key = keys.envKey
		if raw = os.Getenv(keys.variable); raw == "" {
			return nil, &KeyError{Key: key, Err: errors.New("the environment variable " + keys.variable + " is not set"), Hint: "set it"}
		}
	}
	if raw == "" {
		return nil, &KeyError{Key: key, Err: errors.New("is missing"), Hint: "add " + keys.key + " or " + keys.envKey}
	}
	t, err := parseTarget(raw)
	if err != nil {
		return nil, &KeyError{Key: key, Err: err, Hint: "write https://host/path"}
	}
	if err := env.HTTP.guard.refuses(t.fixed.Hostname()); err != nil {
		return nil, &KeyError{Key: key, Err: err}
	}
	t.hidden = key == keys.envKey || env.hides(key)
	return t, nil
}

var errPlaceholderInHost = errors.New("a placeholder cannot stand before the path: who receives the data is yours to say")

func parseTarget(raw string) (*target, error) {
	template, err := CompileTemplate(raw, URL)
	if err != nil {
		return nil, err
	}
	t := &target{}
	sample := raw
	if !template.Static() {
		if !hasAuthority(template.parts[0]) {
			return nil, errPlaceholderInHost
		}
		t.template, sample = template, sampleURL(template)
	}
	if t.fixed, err = parseURL(sample); err != nil {
		return nil, err
	}
	t.origin = t.fixed.Scheme + "://" + t.fixed.Host
	return t, nil
}

// hasAuthority reports whether a literal holds scheme and host, to their end.
func hasAuthority(p part) bool {
	_, rest, ok := strings.Cut(p.literal, "://")
	return ok && strings.ContainsAny(rest, "/?#")
}

func sampleURL(t *Template) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.kind == valuePart {
			b.WriteByte('x')
		}
		b.WriteString(p.literal)
	}
	return b.String()
}

// parseURL never repeats the text that it cannot read: it may hold a password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("is no http or https URL")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return nil, errors.New("has a port that is none")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// of returns the address for an event.
func (t *target) of(e *event.Event) (*url.URL, error) {
	if t.template == nil {
		return t.fixed, nil
	}
	raw, err := t.template.Render(e)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(string(raw))
	if err != nil || u.Host != t.fixed.Host || climbs(u) {
		return nil, event.Permanent(event.WithClass(errors.New("render url: a value in its path is not allowed there"), "template"))
	}
	return u, nil
}

// shown is an address as an explanation prints it.
func (t *target) shown(u *url.URL) string {
	if t.hidden {
		return t.origin + "/" + secret.Mask
	}
	open := *u
	if u.User != nil {
		open.User = url.User(secret.Mask)
	}
	return open.String()
}

// climbs reports whether the path holds "." or "..", which servers resolve to another resource. Some take \ for /.
func climbs(u *url.URL) bool {
	for segment := range strings.SplitSeq(strings.ReplaceAll(u.Path, `\`, "/"), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// basicAuth returns the Authorization header that a URL's user and password stand for, "" when it has none.
func basicAuth(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(u.User.Username(), password)
	return r.Header.Get("Authorization")
}
