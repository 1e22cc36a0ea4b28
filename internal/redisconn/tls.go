package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"
)

// FileError says what is wrong with the file that a key names.
type FileError struct {
	Key string // of the [redis] table
	Err error
}

// Error implements error. As every error of [Open] it goes on where "url in [redis]" ends.
func (e *FileError) Error() string { return "needs " + e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

var (
	errNoCertificate = errors.New("holds no certificate in PEM form")
	errBelong        = errors.New("is missing (tls_cert and tls_key belong together)")
)

// CheckFiles reports whether the certificates can be read. Its error is a [*FileError].
func (c Config) CheckFiles() error {
	return c.secure(&redis.UniversalOptions{TLSConfig: &tls.Config{}})
}

// secure puts the certificates into options. The client's are read for each connection, since they are renewed.
func (c Config) secure(options *redis.UniversalOptions) error {
	if options.TLSConfig == nil {
		return nil
	}
	if c.TLSCA != "" {
		text, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return &FileError{"tls_ca", err}
		}
		if options.TLSConfig.RootCAs = x509.NewCertPool(); !options.TLSConfig.RootCAs.AppendCertsFromPEM(text) {
			return &FileError{"tls_ca", errNoCertificate}
		}
	}
	if c.TLSCert == "" && c.TLSKey == "" {
		return nil
	}
	if _, err := c.pair(); err != nil {
		return err
	}
	options.TLSConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := c.pair()
		return &pair, err
	}
	return nil
}

func (c Config) pair() (tls.Certificate, error) {
	switch {
	case c.TLSCert == "":
		return tls.Certificate{}, &FileError{"tls_cert", errBelong}
	case c.TLSKey == "":
		return tls.Certificate{}, &FileError{"tls_key", errBelong}
	}
	cert, err := os.ReadFile(c.TLSCert)
	if err != nil {
		return tls.Certificate{}, &FileError{"tls_cert", err}
	}
	key, err := os.ReadFile(c.TLSKey)
	if err != nil {
		return tls.Certificate{}, &FileError{"tls_key", err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, &FileError{"tls_cert", fmt.Errorf("is no pair with tls_key, in PEM form: %w", err)}
	}
	return pair, nil
}
