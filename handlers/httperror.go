package handlers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/http1"
	"github.com/fraiseql/observer/internal/secret"
)

// requestError turns what the transport returned into an outcome. A shutdown stays recognisable as context.Canceled.
func requestError(ctx context.Context, err error) error {
	var blocked *blockedError
	switch {
	case errors.As(err, &blocked):
		return event.Permanent(event.WithClass(blocked, "blocked"))
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("wait for answer: %w", context.Canceled)
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return event.WithClass(errors.New("no answer in time"), "timeout")
	}
	class := networkClass(err)
	return event.WithClass(errors.New(shorten(err.Error())), class)
}

func networkClass(err error) string {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.As(err, &dns):
		return "dns"
	case isTLS(err):
		return "tls"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "reset"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "network"
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		operation    *net.OpError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &record), errors.Is(err, errClientCertificate):
		return true
	case errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error"): // an alert of crypto/tls
		return true
	}
	return strings.HasPrefix(err.Error(), "tls: ") || strings.Contains(err.Error(), "TLS handshake")
}

// shorten keeps what a server answered instead of HTTP from filling the logs.
func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxRetryAfter caps what a server may ask for.
const maxRetryAfter = time.Hour

func succeeded(answer *http1.Answer) bool { return answer.Status >= 200 && answer.Status < 300 }

// readSaid returns the start of an answer as one line of text, without the secrets, which receivers like to repeat: "Cannot
// POST /hooks/…".
func readSaid(body io.Reader, secrets *strings.Replacer) string {
	b := make([]byte, maxRead)
	n, _ := io.ReadFull(body, b) // what came in time counts
	line := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(secrets.Replace(string(b[:n])), "?"))
	if len(line) <= maxSaid {
		return strings.TrimSpace(line)
	}
	end := maxSaid
	for !utf8.RuneStart(line[end]) {
		end--
	}
	return strings.TrimSpace(line[:end]) + "…"
}

// secretsOf finds what a request carries that may be secret: path and query of its URL, what of them is no plain word, and
// the values of its headers.
func secretsOf(r *http1.Request) *strings.Replacer {
	u := r.URL
	var list []string
	add := func(texts ...string) {
		for _, s := range texts {
			if len(s) >= minSecret {
				list = append(list, s)
			}
		}
	}
	add(u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery)
	parts := strings.Split(u.Path, "/")
	for _, values := range u.Query() {
		parts = append(parts, values...)
	}
	add(slices.DeleteFunc(parts, isWord)...)
	for _, f := range r.Header {
		if !slices.Contains(openHeaders, f.Name) {
			add(f.Value, f.Value[strings.LastIndexByte(f.Value, ' ')+1:]) // the token after "Bearer"
		}
	}
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) }) // the first that fits is replaced
	pairs := make([]string, 0, 2*len(list))
	for _, s := range list {
		pairs = append(pairs, s, secret.Mask)
	}
	return strings.NewReplacer(pairs...)
}

func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-_") == "" }

// statusError turns the status of an answer into an outcome; said is what else the receiver said.
func statusError(answer *http1.Answer, said string) error {
	if succeeded(answer) {
		return nil
	}
	code := answer.Status
	text := strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
	if said != "" {
		text += ": " + said
	}
	err := event.WithClass(errors.New(text), "http_"+strconv.Itoa(code))
	if !transient(code) {
		return event.Permanent(err)
	}
	if d := retryAfter(answer.Header.Get("Retry-After"), time.Now()); d > 0 {
		return event.RetryAfter(err, d)
	}
	return err
}

// transient reports whether the same request may succeed later. Redirects are not followed, so they may not.
func transient(code int) bool {
	switch code {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	d := time.Duration(0)
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) { // the nearest number, then
		d = time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		d = date.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
