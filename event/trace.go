package event

import (
	"strings"

	"github.com/tidwall/gjson"
)

// TraceContext is the W3C trace context (https://www.w3.org/TR/trace-context/) in which a change was made. It is part of
// the event's JSON where there is one, and no root of conditions and templates.
type TraceContext struct {
	Parent string // traceparent: "" when there is none, else well-formed
	State  string // tracestate, which only readers of it check
}

// maxState is the length up to which the standard asks everybody to pass a tracestate on. A longer one is left out.
const maxState = 512

// ParseTraceContext reads what producers write: {"traceparent": …, "tracestate": …}, a JSON string of either form, or the
// plain traceparent. What is not well-formed is none: a trace must never stop a change.
func ParseTraceContext(text string) TraceContext {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, `"`) {
		text = strings.TrimSpace(Text(text))
	}
	t := TraceContext{Parent: text}
	if strings.HasPrefix(text, "{") {
		if !gjson.Valid(text) {
			return TraceContext{}
		}
		t = TraceContext{Parent: gjson.Get(text, "traceparent").String(), State: gjson.Get(text, "tracestate").String()}
	}
	if !validParent(t.Parent) {
		return TraceContext{}
	}
	if len(t.State) > maxState {
		t.State = ""
	}
	return TraceContext{strings.Clone(t.Parent), strings.Clone(t.State)} // text is often part of something large
}

// validParent reports whether s is version-traceid-parentid-flags in lower-case hex. Versions after 00 may hold more.
func validParent(s string) bool {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < length || len(s) > maxState || len(s) > length && (s[:2] == "00" || s[length] != '-') {
		return false
	}
	for i, c := range []byte(s[:length]) {
		if i == 2 || i == 35 || i == 52 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s[:2] != "ff" && strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// JSON returns {"traceparent": …, "tracestate": …}, "" when there is none.
func (t TraceContext) JSON() string {
	if t.Parent == "" {
		return ""
	}
	b := appendString([]byte(`{"traceparent":`), t.Parent)
	if t.State != "" {
		b = appendString(append(b, `,"tracestate":`...), t.State)
	}
	return string(append(b, '}'))
}
