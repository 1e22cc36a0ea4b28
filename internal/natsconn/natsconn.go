// Package natsconn connects to the operator's NATS servers.
package natsconn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fraiseql/observer/internal/secret"
)

// Config says where the servers are and how to get in: these keys of the [transport.nats] table.
type Config struct {
	URL             secret.String `toml:"url" default:"nats://localhost:4222" env:"FRAISEQL_NATS_URL" doc:"server addresses, comma-separated"`
	CredentialsFile string        `toml:"credentials_file" doc:"file with the credentials of a user"`
	TokenEnv        string        `toml:"token_env" doc:"environment variable that holds the token"`
	TLSCA           string        `toml:"tls_ca" doc:"file with the certificates to trust"`
	TLSCert         string        `toml:"tls_cert" doc:"file with the client certificate"`
	TLSKey          string        `toml:"tls_key" doc:"file with the key of the client certificate"`
}

const (
	connectTimeout = 5 * time.Second
	reconnectWait  = time.Second
	// A server that is gone without a word is noticed after two pings.
	pingInterval = 20 * time.Second
	maxPings     = 2
)

// ErrURL says that the addresses are none; their text, which may hold a password, is not in it.
var ErrURL = errors.New("is no list of NATS servers (write nats://user:password@host:4222, or tls:// with TLS, with commas between several)")

// Check reports whether the addresses can be read.
func (c Config) Check() error {
	for address := range strings.SplitSeq(c.URL.Reveal(), ",") {
		address = strings.TrimSpace(address)
		if !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" {
			return ErrURL
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return ErrURL
		}
	}
	return nil
}

// Conn is a connection that looks for a server in the background, for ever, while it has none. What is published then
// fails at once.
type Conn struct {
	*nats.Conn

	link *link
}

// Open connects. It waits until each server was tried once or ctx ends, and returns a connection also when none answered.
// The error is one of the configuration.
func Open(ctx context.Context, c Config) (*Conn, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("connect to NATS: url %w", err)
	}
	access, err := c.access()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	l := newLink()
	release := context.AfterFunc(ctx, l.hurry)
	defer release()
	conn, err := nats.Connect(c.URL.Reveal(), append(access, l.options()...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: url %w", ErrURL) // nats.go prints the address
	}
	select {
	case <-l.tried:
	case <-ctx.Done():
	}
	l.opened()
	return &Conn{conn, l}, nil
}

// access returns the options that let us in. It reads every file, so that one that is missing is found now, and not by
// servers that refuse us.
func (c Config) access() (options []nats.Option, err error) {
	use := func(key string, option nats.Option) {
		if failed := option(&nats.Options{}); failed != nil && err == nil {
			err = fmt.Errorf("read %s: %w", key, failed)
		}
		options = append(options, option)
	}
	if c.CredentialsFile != "" {
		use("credentials_file", credentials(c.CredentialsFile))
	}
	if c.TokenEnv != "" {
		use("token_env", token(c.TokenEnv))
	}
	if c.TLSCA != "" {
		use("tls_ca", nats.RootCAs(c.TLSCA))
	}
	if c.TLSCert != "" || c.TLSKey != "" {
		use("tls_cert", certificate(c.TLSCert, c.TLSKey))
	}
	return options, err
}

func credentials(file string) nats.Option {
	return func(o *nats.Options) error {
		if err := nats.UserCredentials(file)(o); err != nil {
			return err
		}
		if _, err := o.UserJWT(); err != nil {
			return err
		}
		_, err := o.SignatureCB(nil)
		return err
	}
}

func token(variable string) nats.Option {
	return func(o *nats.Options) error {
		if o.Token = os.Getenv(variable); o.Token == "" {
			return fmt.Errorf("the environment variable %s is not set", variable)
		}
		return nil
	}
}

func certificate(cert, key string) nats.Option {
	if cert == "" || key == "" {
		return func(*nats.Options) error {
			return errors.New("tls_cert and tls_key belong together (set both or none)")
		}
	}
	return nats.ClientCert(cert, key)
}

// Down returns why there is no connection now, nil when there is one. It never waits, as questions to nats.go do while
// that looks for a server.
func (c *Conn) Down() error { return c.link.state() }

// Ended reports whether the connection is closed for good, also by a server that will not have us.
func (c *Conn) Ended() bool { return c.link.ended() }

// Denied returns what the server said last about a right that we lack, "" when it said nothing. It says so apart from the
// request, which gets no answer.
func (c *Conn) Denied() string { return c.link.lastDenied() }

// Interrupt ends a look for a server that is under way, which holds up what waits for nats.go; the next one follows.
func (c *Conn) Interrupt() { c.link.interrupt() }

// Close ends the connection, and does not wait for a server.
func (c *Conn) Close() {
	c.link.close()
	c.Conn.Close()
}
