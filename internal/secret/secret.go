// Package secret holds a string that never prints itself.
package secret

import "log/slog"

// Mask is what a secret prints.
const Mask = "***"

// String is a secret: a password, a token, a URL that holds one. fmt, slog and encoders print "***"; [String.Reveal]
// gives the text to the client that needs it.
type String string

// Reveal returns the text.
func (s String) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s String) String() string {
	if s == "" {
		return ""
	}
	return Mask
}

// GoString implements fmt.GoStringer.
func (s String) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler, so that JSON and TOML print the mask.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }
