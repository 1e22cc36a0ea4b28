// Package natsconn connects to the operator's NATS servers.
package natsconn

import (
	"fmt"
	"os"
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
)

// Open returns a connection that looks for a server for ever, in the background. While there is none, what is published
// fails at once. The error is one of the configuration.
func Open(c Config) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("observer"), nats.Timeout(connectTimeout), nats.ReconnectWait(reconnectWait),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
	}
	if c.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(c.CredentialsFile))
	}
	if c.TokenEnv != "" {
		options = append(options, nats.Token(os.Getenv(c.TokenEnv)))
	}
	if c.TLSCA != "" {
		options = append(options, nats.RootCAs(c.TLSCA))
	}
	if c.TLSCert != "" {
		options = append(options, nats.ClientCert(c.TLSCert, c.TLSKey))
	}
	conn, err := nats.Connect(c.URL.Reveal(), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}
