package handlers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/http1"
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
		alert        tls.AlertError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &hostname) || strings.Contains(err.Error(), "TLS handshake")
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

// readSaid returns the start of an answer as one line of text.
func readSaid(body io.Reader) string {
	b := make([]byte, maxSaid+utf8.UTFMax)
	n, _ := io.ReadFull(body, b) // what came in time counts
	text, tail := b[:n], ""
	if n > maxSaid {
		end := maxSaid
		for end > maxSaid-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		text, tail = text[:end], "…"
	}
	line := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
	return strings.TrimSpace(line) + tail
}

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
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		d = date.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
