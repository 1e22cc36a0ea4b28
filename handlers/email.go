package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// Email is the action that sends a mail through the server of [smtp]. Every attempt of a delivery carries the same Message-ID.
type Email struct {
	mailer  *mailer
	to      *recipients
	cc      []*mail.Address
	replyTo *mail.Address // nil: none
	subject *Template
	text    *Template
	html    *Template // nil: none
	hides   func(key string) bool
}

var (
	_ Previewer = (*Email)(nil)
	_ Checker   = (*Email)(nil)
)

// NewEmail builds the action from its keys.
func NewEmail(cfg *EmailConfig, env Env) (Action, error) {
	if env.Servers == nil {
		return nil, errors.New("build email action: no servers are given")
	}
	e := &Email{hides: env.hides}
	var errs [7]error
	e.mailer, errs[0] = env.Servers.mailer()
	e.to, errs[1] = newRecipients(cfg)
	e.cc, errs[2] = addresses("cc", cfg.CC)
	e.replyTo, errs[3] = address("reply_to", cfg.ReplyTo)
	e.subject, errs[4] = keyTemplate("subject", cfg.Subject, Subject)
	e.text, errs[5] = keyTemplate("body_template", cfg.BodyTemplate, Plain)
	if cfg.HTMLTemplate != "" {
		e.html, errs[6] = keyTemplate("html_template", cfg.HTMLTemplate, HTML)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return e, nil
}

func keyTemplate(key, src string, pos Position) (*Template, error) {
	t, err := CompileTemplate(src, pos)
	if err != nil {
		return nil, &KeyError{Key: key, Err: err}
	}
	return t, nil
}

// Timeout returns the time that one attempt may take.
func (e *Email) Timeout() time.Duration { return e.mailer.timeout }

// Endpoint names the mail server.
func (e *Email) Endpoint() string { return "smtp://" + e.mailer.address }

// Run sends the mail once, to all recipients or to none. What the server refuses for good (5yz) is permanent; what it may
// take later, a connection that fails and a login that is refused are not.
func (e *Email) Run(ctx context.Context, d *event.Delivery) error {
	l, err := e.letter(d)
	if err != nil {
		return err
	}
	ready, err := e.pack(l)
	if err != nil {
		return err
	}
	return e.named(e.mailer.send(ctx, ready))
}

// Check implements [Checker].
func (e *Email) Check(ctx context.Context) (string, error) {
	return e.mailer.address + " answers", e.named(e.mailer.check(ctx))
}

func (e *Email) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mail server %s: %w", e.mailer.address, err)
}

// Preview implements [Previewer].
func (e *Email) Preview(d *event.Delivery) (Preview, error) {
	l, err := e.letter(d)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Request: "mail through " + e.mailer.address, Body: e.shown(l.text, "body_template")}
	p.Fields = append(p.Fields,
		PreviewField{"From", e.mailer.from.String()},
		PreviewField{"To", e.shown(addressLine(l.to), "to", "to_template")})
	if len(e.cc) > 0 {
		p.Fields = append(p.Fields, PreviewField{"Cc", e.shown(addressLine(e.cc), "cc")})
	}
	if e.replyTo != nil {
		p.Fields = append(p.Fields, PreviewField{"Reply-To", e.shown(e.replyTo.String(), "reply_to")})
	}
	p.Fields = append(p.Fields, PreviewField{"Subject", e.shown(l.subject, "subject")}, PreviewField{"Message-ID", "<" + l.id + ">"})
	if e.html != nil {
		p.Body += "\n\n--- HTML ---\n" + e.shown(l.html, "html_template")
	}
	return p, nil
}

// shown masks what comes from a key that holds a secret.
func (e *Email) shown(text string, keys ...string) string {
	if slices.ContainsFunc(keys, e.hides) {
		return secret.Mask
	}
	return text
}

// letter is what differs from mail to mail.
type letter struct {
	to                      []*mail.Address
	subject, id, text, html string
}

func (e *Email) letter(d *event.Delivery) (*letter, error) {
	l := &letter{id: messageID(d.ID(), e.mailer.from.Address)}
	var err error
	if l.to, err = e.to.of(d.Event); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		key  string
		from *Template
		to   *string
	}{{"subject", e.subject, &l.subject}, {"body_template", e.text, &l.text}, {"html_template", e.html, &l.html}} {
		if t.from == nil {
			continue
		}
		b, err := t.from.Render(d.Event)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.key, err)
		}
		*t.to = string(b)
	}
	l.subject = subjectLine(l.subject)
	return l, nil
}

// pack writes a mail as it goes over the wire. Its lines are short and hold nothing but ASCII, whatever the row holds,
// except where an address does.
func (e *Email) pack(l *letter) (*outgoing, error) {
	m := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP), gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(e.mailer.from)
	m.ToMailAddress(l.to...)
	m.CcMailAddress(e.cc...)
	if e.replyTo != nil {
		m.ReplyToMailAddress(e.replyTo)
	}
	m.Subject(encodeWords(l.subject))
	m.SetMessageIDWithValue(l.id)
	m.SetDate()
	m.SetGenHeader("Auto-Submitted", "auto-generated") // no holiday notes, please: RFC 3834
	m.SetBodyString(gomail.TypeTextPlain, l.text)
	if e.html != nil {
		m.AddAlternativeString(gomail.TypeTextHTML, l.html)
	}
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		return nil, event.Permanent(fmt.Errorf("write mail: %w", err))
	}
	o := &outgoing{from: envelope(e.mailer.from), text: b.Bytes()}
	o.ascii = isASCII(o.from)
	for _, a := range slices.Concat(l.to, e.cc) {
		if to := envelope(a); !slices.Contains(o.to, to) {
			o.to = append(o.to, to)
			o.ascii = o.ascii && isASCII(to)
		}
	}
	if e.replyTo != nil {
		o.ascii = o.ascii && isASCII(e.replyTo.Address)
	}
	return o, nil
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// messageID makes the id of a mail from the id of its delivery. An id of other characters, as a producer may choose one,
// becomes its hash.
func messageID(id, from string) string {
	if !idForm.MatchString(id) {
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:])
	}
	return id + from[strings.LastIndexByte(from, '@'):]
}

// maxSubject bounds a subject, in bytes: nobody reads further, and some servers cut headers.
const maxSubject = 1000

// subjectLine makes one line of text: a header in which a line holds nothing but spaces is read as the end of the headers
// by some.
func subjectLine(s string) string {
	s = strings.Join(strings.Fields(oneLine(s)), " ")
	if len(s) <= maxSubject {
		return s
	}
	return cut(s, maxSubject) + "…"
}

// cut returns the characters of s that fit into n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// encodeWords encodes, as RFC 2047 says, what go-mail would leave as it is because it is ASCII: text that would be read as
// encoded, and words too long for a line.
func encodeWords(s string) string {
	const longest = 60
	long := slices.ContainsFunc(strings.Fields(s), func(word string) bool { return len(word) > longest })
	if !isASCII(s) || !long && !strings.Contains(s, "=?") {
		return s
	}
	var words []string
	for s != "" {
		word := cut(s, 45) // 60 characters of base64: an encoded word has 75 at most
		words = append(words, "=?UTF-8?B?"+base64.StdEncoding.EncodeToString([]byte(word))+"?=")
		s = s[len(word):]
	}
	return strings.Join(words, " ")
}
