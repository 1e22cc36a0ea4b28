package handlers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// mailConn is a connection to the mail server. One goroutine uses it at a time.
type mailConn struct {
	raw     net.Conn
	client  *smtp.Client
	begun   bool // the server has asked for the text of the mail that was sent last
	broken  bool // no other mail can be sent
	expires *time.Timer
}

// within runs a part of the conversation, which ends with ctx.
func (c *mailConn) within(ctx context.Context, talk func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	err := talk()
	if !stop() {
		c.broken = true // the deadline may come any moment
	}
	return err
}

func (c *mailConn) send(ctx context.Context, o *outgoing) error {
	return c.within(ctx, func() error {
		c.begun = false
		step, err := c.transaction(o)
		if err == nil || errors.Is(err, errNotASCII) {
			return err
		}
		reply, ok := errors.AsType[*textproto.Error](err)
		c.broken = !ok || reply.Code < 400 || reply.Code == serviceEnds
		return refused(ctx, step, err, true)
	})
}

// serviceEnds is the code of a server that closes the connection.
const serviceEnds = 421

var errNotASCII = event.Permanent(event.WithClass(errors.New("it takes no addresses that are not ASCII (it offers no SMTPUTF8)"), "address"))

// transaction sends a mail to all of its recipients or, when the server refuses one, to none. It returns what was refused.
func (c *mailConn) transaction(o *outgoing) (step string, err error) {
	if takes, _ := c.client.Extension("SMTPUTF8"); !takes && !o.ascii {
		return "", errNotASCII
	}
	c.client.SkipSMTPUTF8(o.ascii) // not every server on the way takes such mails
	if err := c.client.Mail(o.from); err != nil {
		return "sender", err
	}
	for _, to := range o.to {
		if err := c.client.Rcpt(to); err != nil {
			return "recipient", err
		}
	}
	w, err := c.client.Data()
	if err != nil {
		return "mail", err
	}
	c.begun = true
	if _, err := w.Write(o.text); err != nil {
		return "mail", err // and no end of the text, so that the server throws it away
	}
	return "mail", w.Close()
}

// quit says goodbye, where that is still heard, and closes the connection without waiting for an answer.
func (c *mailConn) quit() {
	if !c.broken {
		_ = c.raw.SetDeadline(time.Now().Add(time.Second)) // so few bytes never wait
		_, _ = c.client.Text.Cmd("QUIT")
	}
	_ = c.raw.Close() // nothing is under way
}

// addressForm finds addresses in what a server says: they may come from a row.
var addressForm = regexp.MustCompile(`[^\s<>"'(),:;]+@[^\s<>"'(),:;]+`)

// refused turns what went wrong at a step into an outcome. Only what concerns the mail itself can be permanent.
func refused(ctx context.Context, step string, err error, ofMail bool) error {
	reply, ok := errors.AsType[*textproto.Error](err)
	if !ok || reply.Code < 400 {
		return fmt.Errorf("%s: %w", step, requestError(ctx, err))
	}
	said := cut(oneLine(addressForm.ReplaceAllString(strings.ToValidUTF8(reply.Msg, "?"), secret.Mask)), maxSaid)
	class := "smtp_" + strconv.Itoa(reply.Code)
	permanent := ofMail && reply.Code >= 500
	if slices.Contains(authCodes, reply.Code) {
		class, permanent = "auth", false
	}
	err = event.WithClass(fmt.Errorf("%s refused: %d %s", step, reply.Code, said), class)
	if permanent {
		return event.Permanent(err)
	}
	return err
}

func (m *mailer) greet(ctx context.Context, c *mailConn) (err error) {
	conn := c.raw
	if m.mode == "tls" {
		conn = tls.Client(c.raw, m.tls)
	}
	if c.client, err = smtp.NewClient(conn, m.host); err != nil {
		return m.wrongTLS(refused(ctx, "greeting", err, false), err)
	}
	if err := c.client.Hello(helloName(c.raw.LocalAddr())); err != nil {
		return refused(ctx, "EHLO", err, false)
	}
	if m.mode == "start_tls" {
		if offered, _ := c.client.Extension("STARTTLS"); !offered {
			return event.WithClass(errors.New(`it offers no STARTTLS (write tls = "tls" in [smtp] if it encrypts from the start)`), "tls")
		}
		if err := c.client.StartTLS(m.tls); err != nil {
			return refused(ctx, "STARTTLS", err, false)
		}
	}
	if m.login == nil {
		return nil
	}
	return m.authenticate(ctx, c.client)
}

// wrongTLS adds what to write where the server seems to expect another value of tls.
func (m *mailer) wrongTLS(outcome, err error) error {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case noTLS:
		return fmt.Errorf(`%w (write tls = "start_tls" in [smtp] if it encrypts on demand)`, outcome)
	case m.mode != "tls" && strings.HasSuffix(m.address, ":465") && event.Class(outcome) == "timeout":
		return fmt.Errorf(`%w (write tls = "tls" in [smtp]: port 465 encrypts from the start)`, outcome)
	}
	return outcome
}

// helloName is how we introduce ourselves: by full name or, without one, by address, as RFC 5321, section 4.1.4, asks for.
func helloName(local net.Addr) string {
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
		return name
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return "localhost"
	}
	ip := at.Addr().WithZone("").Unmap()
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}
