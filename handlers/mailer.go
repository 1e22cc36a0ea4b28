package handlers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxMailConns    = 4                // at the same time: servers take few from one client
	mailIdleTimeout = 30 * time.Second // of a connection that is kept
	mailCheckTime   = 5 * time.Second  // at most, for a kept connection to show that it stands
)

// mailer sends the mails of all actions through the operator's server, over a few connections that it keeps.
type mailer struct {
	host, address string
	mode          string // as the key tls
	from          *mail.Address
	login         []loginWay // nil: none
	hide          *strings.Replacer
	tls           *tls.Config
	timeout       time.Duration // of one mail
	keep          time.Duration
	slots         chan struct{} // one for each mail that is being sent

	mu     sync.Mutex // guards what follows
	idle   []*mailConn
	closed bool
}

// outgoing is a mail, ready to be sent.
type outgoing struct {
	from  string // in angle brackets, as the others
	to    []string
	text  []byte
	ascii bool // all of its addresses are
}

// mailer returns what sends the mails of all actions. Its error says what is wrong in [smtp].
func (s *Servers) mailer() (*mailer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mail == nil {
		m, err := newMailer(s.cfg.SMTP, s.cfg.Concurrency)
		if err != nil {
			return nil, err
		}
		s.mail = m
	}
	return s.mail, nil
}

func newMailer(cfg SMTPConfig, concurrency int) (*mailer, error) {
	setDefaults(&cfg)
	m := &mailer{
		host: cfg.Host, address: net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)), mode: cfg.TLS,
		tls:     &tls.Config{ServerName: cfg.Host, MinVersion: tls.VersionTLS12},
		timeout: time.Duration(cfg.TimeoutSecs) * time.Second, keep: mailIdleTimeout,
		slots: make(chan struct{}, min(max(concurrency, 1), maxMailConns)),
	}
	var fromErr error
	m.from, fromErr = sender(cfg.From)
	if err := errors.Join(fromErr, m.setLogin(cfg)); err != nil {
		return nil, err
	}
	return m, nil
}

// setDefaults gives the keys that are not set their defaults, for configs that no file made.
func setDefaults(cfg *SMTPConfig) {
	if cfg.Host == "" {
		cfg.Host = "localhost"
	}
	if cfg.Port == 0 {
		cfg.Port = 587
	}
	if cfg.TLS == "" {
		cfg.TLS = "start_tls"
	}
	if cfg.TimeoutSecs == 0 {
		cfg.TimeoutSecs = 30
	}
}

func sender(text string) (*mail.Address, error) {
	from, err := address("from", text)
	switch {
	case err != nil:
		return nil, smtpError("from", "is no mail address", addressHint)
	case from == nil:
		return nil, smtpError("from", "is missing, and email actions need it", `write from = "Orders <orders@example.com>"`)
	}
	return from, nil
}

func smtpError(key, message, hint string) error {
	return &KeyError{Table: "smtp", Key: key, Err: errors.New(message), Hint: hint}
}

// send sends a mail once. A kept connection that turns out to be dead before the server has asked for the text is replaced
// by a new one; after that the server may have taken the mail, and whether to try again is the caller's to say. The time of
// the attempt begins when the mail has its turn.
func (m *mailer) send(ctx context.Context, o *outgoing) error {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a connection: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if c := m.kept(ctx); c != nil {
		err := c.send(ctx, o)
		m.release(c)
		if err == nil || !c.broken || c.begun || ctx.Err() != nil {
			return err
		}
	}
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer m.release(c)
	return c.send(ctx, o)
}

// check finds out whether a mail could be sent.
func (m *mailer) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	_ = c.within(ctx, c.client.Quit) // whatever it answers: it has shown what was asked
	_ = c.raw.Close()
	return nil
}

// kept takes the idle connection that was used last, nil when there is none or when it does not stand any more.
func (m *mailer) kept(ctx context.Context) *mailConn {
	m.mu.Lock()
	if len(m.idle) == 0 {
		m.mu.Unlock()
		return nil
	}
	c := m.idle[len(m.idle)-1]
	m.idle = m.idle[:len(m.idle)-1]
	c.expires.Stop()
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, min(mailCheckTime, m.timeout/4))
	defer cancel()
	if err := c.within(ctx, c.client.Reset); err != nil || c.broken {
		_ = c.raw.Close() // the server did so before
		return nil
	}
	return c
}

// release keeps a connection for the next mail.
func (m *mailer) release(c *mailConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.broken || m.closed {
		c.quit()
		return
	}
	m.idle = append(m.idle, c)
	c.expires = time.AfterFunc(m.keep, func() { m.expire(c) })
}

func (m *mailer) expire(c *mailConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.idle, c); i >= 0 { // else it was taken just now
		m.idle = slices.Delete(m.idle, i, i+1)
		c.quit()
	}
}

// close closes the idle connections; those in use are closed when their mails are sent.
func (m *mailer) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, c := range m.idle {
		c.expires.Stop()
		c.quit()
	}
	m.idle = nil
}

// dial opens a connection on which mails can be sent. What the server refuses here says nothing about the mail, so it is
// never permanent.
func (m *mailer) dial(ctx context.Context) (*mailConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", m.address)
	if err != nil {
		return nil, requestError(ctx, err)
	}
	c := &mailConn{raw: raw}
	if err := c.within(ctx, func() error { return m.greet(ctx, c) }); err != nil {
		_ = raw.Close() // nothing was sent
		return nil, err
	}
	return c, nil
}
