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

// Error implements error.
func (e *FileError) Error() string { return e.Key + " in [redis]: " + e.Err.Error() }

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
	for key, file := range map[string]string{"tls_cert": c.TLSCert, "tls_key": c.TLSKey} {
		if _, err := os.ReadFile(file); err != nil { //nolint:gosec // the operator names it
			return tls.Certificate{}, &FileError{key, err}
		}
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return tls.Certificate{}, &FileError{"tls_cert", fmt.Errorf("is no pair with tls_key, in PEM form: %w", err)}
	}
	return pair, nil
}
