package handlers

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

// mailServer is an SMTP server that keeps what it takes.
type mailServer struct {
	address string
	smtp    *smtp.Server

	conns, open atomic.Int64 // connections so far, and now
	refuse      func(command, arg string) error
	password    string // "" takes everyone

	mu    sync.Mutex // guards what follows
	mails []takenMail
}

// takenMail is a mail as it came.
type takenMail struct {
	from      string
	to        []string
	text      string
	encrypted bool
	user      string
	utf8      bool // SMTPUTF8 was asked for
}

// mailOptions say how a server differs from one that takes everything without encryption.
type mailOptions struct {
	address     string // "" takes a free port
	certificate *tls.Certificate
	implicit    bool // TLS from the start
	password    string
	utf8        bool
	refuse      func(command, arg string) error // of MAIL, RCPT and the end of DATA
}

func startMailServer(t *testing.T, o mailOptions) *mailServer {
	t.Helper()
	s := &mailServer{refuse: o.refuse, password: o.password}
	s.smtp = smtp.NewServer(s)
	s.smtp.Domain, s.smtp.AllowInsecureAuth, s.smtp.EnableSMTPUTF8, s.smtp.ErrorLog = "mail.test", true, o.utf8, quiet{}
	if o.address == "" {
		o.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.address)
	require.NoError(t, err)
	s.address = listener.Addr().String()
	listener = &countingListener{listener, s}
	if o.certificate != nil {
		s.smtp.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*o.certificate}, MinVersion: tls.VersionTLS12}
		if o.implicit {
			listener = tls.NewListener(listener, s.smtp.TLSConfig)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.smtp.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		s.stop()
		<-done
	})
	return s
}

func (s *mailServer) stop() { _ = s.smtp.Close() }

func (s *mailServer) got() []takenMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]takenMail(nil), s.mails...)
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

type countingListener struct {
	net.Listener
	server *mailServer
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.conns.Add(1)
	l.server.open.Add(1)
	return &countedConn{Conn: c, server: l.server}, nil
}

type countedConn struct {
	net.Conn
	server *mailServer
	once   sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.server.open.Add(-1) })
	return c.Conn.Close()
}

// NewSession implements smtp.Backend.
func (s *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, encrypted := c.TLSConnectionState()
	session := &mailSession{server: s, conn: c, mail: takenMail{encrypted: encrypted}}
	if s.password != "" {
		return authSession{session}, nil
	}
	return session, nil
}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	mail   takenMail
}

func (s *mailSession) refuses(command, arg string) error {
	if s.server.refuse == nil {
		return nil
	}
	return s.server.refuse(command, arg)
}

func (s *mailSession) Mail(from string, o *smtp.MailOptions) error {
	if s.server.password != "" && s.mail.user == "" {
		return &smtp.SMTPError{Code: 530, Message: "Authentication required"}
	}
	s.mail.from, s.mail.utf8 = from, o.UTF8
	return s.refuses("MAIL", from)
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	err := s.refuses("RCPT", to)
	if err == nil {
		s.mail.to = append(s.mail.to, to)
	}
	return err
}

var errHangUp = errors.New("hang up")

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	err = s.refuses("DATA", string(text))
	if err != nil && !errors.Is(err, errHangUp) {
		return err
	}
	s.mail.text = string(text)
	s.server.mu.Lock()
	s.server.mails = append(s.server.mails, s.mail)
	s.server.mu.Unlock()
	if err != nil {
		_ = s.conn.Conn().Close()
	}
	return nil
}

func (s *mailSession) Reset()        { s.mail.from, s.mail.to = "", nil }
func (s *mailSession) Logout() error { return nil }

type authSession struct{ *mailSession }

func (s authSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s authSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != s.server.password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "not with " + password}
		}
		s.mail.user = user
		return nil
	}), nil
}

// smtpConfig is the [smtp] table for a server.
func smtpConfig(t *testing.T, address, mode string) SMTPConfig {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	return SMTPConfig{Host: host, Port: number, TLS: mode, From: "Orders <orders@shop.test>", TimeoutSecs: 20}
}

// newTestMailer returns the mailer of servers that are closed at the end.
func newTestMailer(t *testing.T, cfg SMTPConfig) *mailer {
	t.Helper()
	servers := NewServers(ServersConfig{SMTP: cfg, Concurrency: 10})
	t.Cleanup(servers.Close)
	m, err := servers.mailer()
	require.NoError(t, err)
	return m
}

func testMail(to ...string) *outgoing {
	if len(to) == 0 {
		to = []string{"<ada@example.com>"}
	}
	return &outgoing{from: "<orders@shop.test>", to: to, text: []byte("Subject: hello\r\n\r\nhello\r\n.\r\nend\r\n"), ascii: true}
}

// mailCertificate makes a certificate for 127.0.0.1, and the pool that trusts it.
func mailCertificate(t *testing.T, ip net.IP) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

var loopback = net.IPv4(127, 0, 0, 1)

func TestMailerEncryptsAndLogsInAsTheFileSays(t *testing.T) {
	t.Setenv("MAIL_USER", "observer")
	t.Setenv("MAIL_PASSWORD", "s3cret word")
	certificate, pool := mailCertificate(t, loopback)
	for name, c := range map[string]struct {
		mode, password string
	}{
		"no encryption, no login":       {mode: "none"},
		"no encryption, to this host":   {mode: "none", password: "s3cret word"},
		"encryption on demand":          {mode: "start_tls"},
		"encryption on demand, login":   {mode: "start_tls", password: "s3cret word"},
		"encryption from the start":     {mode: "tls"},
		"encryption from there, login":  {mode: "tls", password: "s3cret word"},
		"the default encrypts":          {mode: ""},
		"the default encrypts, a login": {mode: "", password: "s3cret word"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailServer(t, mailOptions{certificate: certificate, implicit: c.mode == "tls", password: c.password})
			cfg := smtpConfig(t, s.address, c.mode)
			user := ""
			if c.password != "" {
				cfg.UsernameEnv, cfg.PasswordEnv, user = "MAIL_USER", "MAIL_PASSWORD", "observer"
			}
			m := newTestMailer(t, cfg)
			m.tls.RootCAs = pool
			require.NoError(t, m.check(t.Context()))
			require.NoError(t, m.send(t.Context(), testMail()))
			want := takenMail{"orders@shop.test", []string{"ada@example.com"}, "Subject: hello\r\n\r\nhello\r\n.\r\nend\r\n", c.mode != "none", user, false}
			require.Equal(t, []takenMail{want}, s.got())
		})
	}
}

func TestMailerSendsNothingToAServerThatItCannotTrust(t *testing.T) {
	good, pool := mailCertificate(t, loopback)
	other, otherPool := mailCertificate(t, net.IPv4(10, 9, 8, 7))
	for name, c := range map[string]struct {
		options mailOptions
		trusted *x509.CertPool
		mode    string
		message string
	}{
		"unknown authority":                {mailOptions{certificate: good}, nil, "start_tls", "unknown authority"},
		"unknown authority from the start": {mailOptions{certificate: good, implicit: true}, nil, "tls", "unknown authority"},
		"another name":                     {mailOptions{certificate: other}, otherPool, "start_tls", "10.9.8.7"},
		"another name from the start":      {mailOptions{certificate: other, implicit: true}, otherPool, "tls", "10.9.8.7"},
		"no STARTTLS":                      {mailOptions{}, pool, "start_tls", `it offers no STARTTLS (write tls = "tls"`},
		"no TLS from the start":            {mailOptions{certificate: good}, pool, "tls", `(write tls = "start_tls" in [smtp]`},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailServer(t, c.options)
			m := newTestMailer(t, smtpConfig(t, s.address, c.mode))
			m.tls.RootCAs = c.trusted
			for _, err := range []error{m.check(t.Context()), m.send(t.Context(), testMail())} {
				require.ErrorContains(t, err, c.message)
				require.Equal(t, "tls", event.Class(err))
				require.False(t, event.IsPermanent(err))
			}
			require.Empty(t, s.got())
		})
	}
}

func TestMailerKeepsAMailWhoseLoginIsRefused(t *testing.T) {
	t.Setenv("MAIL_USER", "observer@shop.test")
	t.Setenv("MAIL_PASSWORD", "wr0ng word")
	for name, c := range map[string]struct {
		login    bool
		password string
		message  string
	}{
		"a wrong password":                 {true, "right", "login refused: 535 5.7.8 not with ***"},
		"no login where one is needed":     {false, "right", "sender refused: 530"},
		"a login where none can be needed": {true, "", "it offers no login with PLAIN or LOGIN (remove username_env"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailServer(t, mailOptions{password: c.password})
			cfg := smtpConfig(t, s.address, "none")
			if c.login {
				cfg.UsernameEnv, cfg.PasswordEnv = "MAIL_USER", "MAIL_PASSWORD"
			}
			err := newTestMailer(t, cfg).send(t.Context(), testMail())
			require.ErrorContains(t, err, c.message)
			require.NotContains(t, err.Error(), "wr0ng")
			require.Equal(t, "auth", event.Class(err))
			require.False(t, event.IsPermanent(err))
			require.Empty(t, s.got())
		})
	}
}

func TestMailerRefusesSettingsThatCannotWork(t *testing.T) {
	t.Setenv("MAIL_USER", "observer")
	t.Setenv("MAIL_PASSWORD", "s3cret")
	for name, c := range map[string]struct {
		cfg  SMTPConfig
		want []string
	}{
		"no sender":              {SMTPConfig{}, []string{"smtp.from: is missing"}},
		"a sender that is none":  {SMTPConfig{From: "Orders"}, []string{"smtp.from: is no mail address (write"}},
		"two senders":            {SMTPConfig{From: "a@shop.test, b@shop.test"}, []string{"smtp.from: is no mail address"}},
		"a user alone":           {SMTPConfig{From: "a@shop.test", UsernameEnv: "MAIL_USER"}, []string{"smtp.username_env: username_env and password_env belong together (set both or none)"}},
		"a password alone":       {SMTPConfig{From: "a@shop.test", PasswordEnv: "MAIL_PASSWORD"}, []string{"smtp.username_env: username_env and password_env belong together (set both or none)"}},
		"everything at once":     {SMTPConfig{UsernameEnv: "NO_USER", PasswordEnv: "NO_PASSWORD"}, []string{"smtp.from: is missing", "NO_USER is not set (set it)", "NO_PASSWORD is not set"}},
		"a password in the open": {SMTPConfig{Host: "mail.shop.test", From: "a@shop.test", TLS: "none", UsernameEnv: "MAIL_USER", PasswordEnv: "MAIL_PASSWORD"}, []string{`smtp.tls: the password would go to mail.shop.test in the clear (write "start_tls" or "tls"`}},
	} {
		t.Run(name, func(t *testing.T) {
			servers := NewServers(ServersConfig{SMTP: c.cfg})
			defer servers.Close()
			_, err := servers.mailer()
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	for _, host := range []string{"localhost", "127.0.0.1", "127.9.9.9", "::1"} {
		_, err := newMailer(SMTPConfig{Host: host, From: "a@shop.test", TLS: "none", UsernameEnv: "MAIL_USER", PasswordEnv: "MAIL_PASSWORD"}, 0)
		require.NoError(t, err, host)
	}
}

func TestMailerKeepsItsConnection(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	for range 20 {
		require.NoError(t, m.send(t.Context(), testMail()))
	}
	require.Len(t, s.got(), 20)
	require.EqualValues(t, 1, s.conns.Load())
	m.close()
	testenv.Eventually(t, 5*time.Second, func() error { return allClosed(s) })
	require.NoError(t, m.send(t.Context(), testMail()), "a mail that was under way")
	testenv.Eventually(t, 5*time.Second, func() error { return allClosed(s) })
}

func allClosed(s *mailServer) error {
	if n := s.open.Load(); n > 0 {
		return fmt.Errorf("%d connections are open", n)
	}
	return nil
}

func TestMailerClosesAConnectionThatNobodyUses(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	m.keep = 20 * time.Millisecond
	require.NoError(t, m.send(t.Context(), testMail()))
	testenv.Eventually(t, 5*time.Second, func() error { return allClosed(s) })
	require.NoError(t, m.send(t.Context(), testMail()))
	require.EqualValues(t, 2, s.conns.Load())
}

func TestMailerNoticesThatTheServerStartedAgain(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	require.NoError(t, m.send(t.Context(), testMail()))
	s.stop()
	err := m.send(t.Context(), testMail())
	require.Equal(t, "refused", event.Class(err))
	require.False(t, event.IsPermanent(err))
	again := startMailServer(t, mailOptions{address: s.address})
	require.NoError(t, m.send(t.Context(), testMail()))
	again.stop()
	last := startMailServer(t, mailOptions{address: s.address})
	require.NoError(t, m.send(t.Context(), testMail()), "at once, over a new connection")
	require.Len(t, last.got(), 1)
}

func TestMailerReplacesAKeptConnectionThatEndsBeforeTheText(t *testing.T) {
	for _, command := range []string{"MAIL", "RCPT"} {
		t.Run(command, func(t *testing.T) {
			var calls atomic.Int64
			s := startMailServer(t, mailOptions{refuse: func(c, _ string) error {
				if c == command && calls.Add(1) == 2 {
					return &smtp.SMTPError{Code: 421, Message: "too many mails over this connection"}
				}
				return nil
			}})
			m := newTestMailer(t, smtpConfig(t, s.address, "none"))
			require.NoError(t, m.send(t.Context(), testMail()))
			require.NoError(t, m.send(t.Context(), testMail()))
			require.Len(t, s.got(), 2)
			require.EqualValues(t, 2, s.conns.Load())
		})
	}
}

func TestMailerNeverSendsAgainWhatTheServerMayHaveTaken(t *testing.T) {
	var calls atomic.Int64
	s := startMailServer(t, mailOptions{refuse: func(c, _ string) error {
		if c == "DATA" && calls.Add(1) == 2 {
			return errHangUp
		}
		return nil
	}})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	require.NoError(t, m.send(t.Context(), testMail()))
	err := m.send(t.Context(), testMail())
	require.Equal(t, "reset", event.Class(err))
	require.False(t, event.IsPermanent(err))
	require.Len(t, s.got(), 2, "once each")
	require.EqualValues(t, 1, s.conns.Load())
	require.NoError(t, m.send(t.Context(), testMail()))
}

func TestMailerOutcomeOfEachReply(t *testing.T) {
	for _, command := range []string{"MAIL", "RCPT", "DATA"} {
		for name, c := range map[string]struct {
			code      int
			class     string
			permanent bool
			conns     int64 // after one more mail
		}{
			"later":                 {451, "smtp_451", false, 1},
			"never":                 {550, "smtp_550", true, 1},
			"no room":               {452, "smtp_452", false, 1},
			"the server ends":       {421, "smtp_421", false, 2},
			"a login is asked for":  {530, "auth", false, 1},
			"a login is not enough": {535, "auth", false, 1},
		} {
			t.Run(command+" "+name, func(t *testing.T) {
				var over atomic.Bool
				s := startMailServer(t, mailOptions{refuse: func(got, _ string) error {
					if got == command && !over.Load() {
						return &smtp.SMTPError{Code: c.code, EnhancedCode: smtp.EnhancedCode{c.code / 100, 1, 1}, Message: "<Ada@Example.com>: not\nnow"}
					}
					return nil
				}})
				m := newTestMailer(t, smtpConfig(t, s.address, "none"))
				err := m.send(t.Context(), testMail())
				require.ErrorContains(t, err, fmt.Sprintf("refused: %d <***>: not %d.1.1 now", c.code, c.code/100))
				require.NotContains(t, strings.ToLower(err.Error()), "ada")
				require.Equal(t, c.class, event.Class(err))
				require.Equal(t, c.permanent, event.IsPermanent(err))
				require.Empty(t, s.got())
				over.Store(true)
				require.NoError(t, m.send(t.Context(), testMail()))
				require.Equal(t, c.conns, s.conns.Load())
			})
		}
	}
}

func TestMailerSendsToAllRecipientsOrToNone(t *testing.T) {
	s := startMailServer(t, mailOptions{refuse: func(command, arg string) error {
		if command == "RCPT" && arg == "gone@example.com" {
			return &smtp.SMTPError{Code: 550, Message: "no such user"}
		}
		return nil
	}})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	err := m.send(t.Context(), testMail("<ada@example.com>", "<gone@example.com>", "<bob@example.com>"))
	require.ErrorContains(t, err, "recipient refused: 550")
	require.True(t, event.IsPermanent(err))
	require.Empty(t, s.got())
	require.NoError(t, m.send(t.Context(), testMail("<bob@example.com>")))
	require.Equal(t, []string{"bob@example.com"}, s.got()[0].to, "nothing is left of the mail before")
}

// scripted is a server that answers each line with the next of its answers, then with nothing more.
func scripted(t *testing.T, greeting string, answer func(conn int, line string) string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			all.Go(func() {
				defer stop()
				defer conn.Close()
				_, _ = io.WriteString(conn, greeting)
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = io.WriteString(conn, answer(n, lines.Text()))
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		all.Wait()
	})
	return listener.Addr().String()
}

// answers talks SMTP up to the end of the text.
func answers(line string) string {
	switch {
	case strings.HasPrefix(line, "EHLO"):
		return "250-mail.test\r\n250 PIPELINING\r\n"
	case strings.HasPrefix(line, "MAIL"), strings.HasPrefix(line, "RCPT"), line == "RSET":
		return "250 ok\r\n"
	case line == "DATA":
		return "354 go on\r\n"
	case line == ".":
		return "250 taken\r\n"
	case line == "QUIT":
		return "221 bye\r\n"
	}
	return ""
}

// silentAt is a server that says nothing more from a line on. It tells when a client has come so far.
func silentAt(t *testing.T, at string) (address string, silent <-chan struct{}) {
	t.Helper()
	reached := make(chan struct{}, 1)
	greeting := "220 mail.test ready\r\n"
	if at == "the greeting" {
		greeting = ""
		reached <- struct{}{}
	}
	return scripted(t, greeting, func(_ int, line string) string {
		if greeting == "" || strings.HasPrefix(line, at) {
			select {
			case reached <- struct{}{}:
			default:
			}
			return ""
		}
		return answers(line)
	}), reached
}

func TestMailerWaitsNoLongerThanItsTime(t *testing.T) {
	for _, at := range []string{"the greeting", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			address, _ := silentAt(t, at)
			m := newTestMailer(t, smtpConfig(t, address, "none"))
			require.Equal(t, 20*time.Second, m.timeout, "as the file says")
			m.timeout = 300 * time.Millisecond
			began := time.Now()
			err := m.send(t.Context(), testMail())
			require.ErrorContains(t, err, "no answer in time")
			require.Equal(t, "timeout", event.Class(err))
			require.False(t, event.IsPermanent(err))
			require.GreaterOrEqual(t, time.Since(began), m.timeout)
		})
	}
}

func TestMailerEndsWithItsContext(t *testing.T) {
	for _, at := range []string{"the greeting", "MAIL", "."} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			address, silent := silentAt(t, at)
			m := newTestMailer(t, smtpConfig(t, address, "none"))
			m.timeout = time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-silent
				cancel()
			}()
			require.ErrorIs(t, m.send(ctx, testMail()), context.Canceled)
		})
	}
	t.Run("while it waits for its turn", func(t *testing.T) {
		t.Parallel()
		m := newTestMailer(t, smtpConfig(t, "127.0.0.1:1", "none"))
		for range cap(m.slots) {
			m.slots <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.send(ctx, testMail()), context.Canceled)
	})
}

func TestMailerReplacesAKeptConnectionThatSaysNothing(t *testing.T) {
	t.Parallel()
	var mails atomic.Int64
	cfg := smtpConfig(t, scripted(t, "220 mail.test ready\r\n", func(conn int, line string) string {
		if conn == 1 && line == "RSET" {
			return ""
		}
		if line == "." {
			mails.Add(1)
		}
		return answers(line)
	}), "none")
	cfg.TimeoutSecs = 4 // of which the kept one has a quarter to answer
	m := newTestMailer(t, cfg)
	require.NoError(t, m.send(t.Context(), testMail()))
	require.NoError(t, m.send(t.Context(), testMail()))
	require.EqualValues(t, 2, mails.Load())
}

func TestMailerKeepsAMailThatTheServerRefusesToHear(t *testing.T) {
	for name, c := range map[string]struct {
		greeting, ehlo, message, class string
	}{
		"at the greeting":     {"554 no service\r\n", "", "greeting refused: 554 no service", "smtp_554"},
		"for a while":         {"421 too busy\r\n", "", "greeting refused: 421 too busy", "smtp_421"},
		"by name":             {"220 hello\r\n", "550 not you\r\n", "EHLO refused: 550 not you", "smtp_550"},
		"with something else": {"HTTP/1.1 400 Bad Request\r\n", "", "greeting: ", "network"},
	} {
		t.Run(name, func(t *testing.T) {
			address := scripted(t, c.greeting, func(int, string) string { return c.ehlo })
			err := newTestMailer(t, smtpConfig(t, address, "none")).send(t.Context(), testMail())
			require.ErrorContains(t, err, c.message)
			require.Equal(t, c.class, event.Class(err))
			require.False(t, event.IsPermanent(err), "it is no fault of the mail")
		})
	}
}

func TestMailerSendsManyMailsOverFewConnections(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	m := newTestMailer(t, smtpConfig(t, s.address, "none"))
	var all sync.WaitGroup
	errs := make(chan error, 100) // one each
	for n := range cap(errs) {
		all.Go(func() { errs <- m.send(t.Context(), testMail(fmt.Sprintf("<to-%d@example.com>", n))) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	seen := map[string]bool{}
	for _, mail := range s.got() {
		require.Len(t, mail.to, 1)
		seen[mail.to[0]] = true
	}
	require.Len(t, seen, 100)
	require.LessOrEqual(t, s.conns.Load(), int64(maxMailConns))
}

func TestMailerIntroducesItself(t *testing.T) {
	names := make(chan string, 1)
	address := scripted(t, "220 hello\r\n", func(_ int, line string) string {
		if name, ok := strings.CutPrefix(line, "EHLO "); ok {
			names <- name
		}
		return answers(line)
	})
	require.NoError(t, newTestMailer(t, smtpConfig(t, address, "none")).check(t.Context()))
	require.Regexp(t, `^(\[127\.0\.0\.1\]|[^ ]+\.[^ ]+)$`, <-names)
	for ip, want := range map[string]string{"192.0.2.1": "[192.0.2.1]", "::ffff:192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]"} {
		if name := helloName(&net.TCPAddr{IP: net.ParseIP(ip), Port: 25}); strings.HasPrefix(name, "[") {
			require.Equal(t, want, name)
		}
	}
}

func TestMailerSaysWhatPort465Wants(t *testing.T) {
	late := event.WithClass(errors.New("greeting: no answer in time"), "timeout")
	require.ErrorContains(t, (&mailer{mode: "start_tls", address: "mail.test:465"}).wrongTLS(late, late), `(write tls = "tls" in [smtp]: port 465`)
	require.Equal(t, late, (&mailer{mode: "start_tls", address: "mail.test:587"}).wrongTLS(late, late))
}
