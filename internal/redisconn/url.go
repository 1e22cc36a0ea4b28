package redisconn

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Check reports whether the URL can be read, and fits the other keys. It reads no file.
func (c Config) Check() error {
	options, err := parse(c.URL.Reveal())
	if err != nil {
		return err
	}
	if options.TLSConfig == nil && (c.TLSCA != "" || c.TLSCert != "" || c.TLSKey != "") {
		return errPlain
	}
	return nil
}

// Server says in words which server it is, for people.
func (c Config) Server() string {
	options, err := parse(c.URL.Reveal())
	if err != nil {
		return "redis"
	}
	addresses := strings.Join(options.Addrs, ", ")
	switch {
	case options.MasterName != "":
		return fmt.Sprintf("the master %s that Sentinel at %s names", options.MasterName, addresses)
	case options.IsClusterMode:
		return "the Cluster at " + addresses
	}
	return addresses
}

// parse reads a URL in the forms of go-redis: ?master_name= is of Sentinels, else ?addr= is of a Cluster. Its error says
// what to write instead, and holds nothing of the URL but names that we know.
func parse(text string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, misread(text)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, ErrURL
	}
	kind := kindOf(query)
	if err := kind.check(u, query); err != nil {
		return nil, err
	}
	options, err := kind.read(u)
	if err != nil {
		return nil, ErrURL // go-redis prints parts of the URL
	}
	if options.TLSConfig != nil && kind != single {
		options.TLSConfig.ServerName = "" // each server proves its own name, not that of the first
		options.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return options, nil
}

// kind is what a URL is of.
type kind int

const (
	single kind = iota
	sentinel
	cluster
)

func kindOf(query url.Values) kind {
	switch {
	case query.Has("master_name"):
		return sentinel
	case query.Has("addr"):
		return cluster
	}
	return single
}

// read leaves the reading to go-redis.
func (k kind) read(u *url.URL) (*redis.UniversalOptions, error) {
	switch k {
	case sentinel:
		return readSentinel(*u)
	case cluster:
		o, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{Addrs: o.Addrs, IsClusterMode: true, Username: o.Username, Password: o.Password, Protocol: o.Protocol, TLSConfig: o.TLSConfig}, nil
	}
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, Protocol: o.Protocol, TLSConfig: o.TLSConfig}, nil
}

// sentinelPort is where Sentinels listen; go-redis takes that of servers.
const sentinelPort = "26379"

func readSentinel(u url.URL) (*redis.UniversalOptions, error) {
	if u.Port() == "" {
		u.Host += ":" + sentinelPort
	}
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: o.SentinelAddrs, MasterName: o.MasterName, DB: o.DB, Username: o.Username, Password: o.Password,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword, Protocol: o.Protocol, TLSConfig: o.TLSConfig,
	}, nil
}
