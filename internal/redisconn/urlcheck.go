package redisconn

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ErrURL says that the address is none; the text of the address, which may hold a password, is not in it.
var ErrURL = errors.New("is not the URL of a Redis server (write redis://user:password@host:6379/0, or rediss:// with TLS; special characters of a password as %XX)")

const (
	clusterForm  = "redis://node1:6379?addr=node2:6379&addr=node3:6379"
	sentinelForm = "redis://sentinel1:26379?master_name=NAME&addr=sentinel2:26379"
)

var (
	errList      = errors.New("is no URL of one server (write " + clusterForm + " for a Cluster, " + sentinelForm + " for Sentinels)")
	errUser      = errors.New("names a user without a password (write redis://user:password@host, or redis://:password@host where Redis has no users)")
	errDatabase  = errors.New("has a database that is no number (write redis://host:6379/0)")
	errClusterDB = errors.New("names a database, and a Cluster has one only (leave it out: " + clusterForm + ")")
	errMaster    = errors.New("has an empty master_name (write " + sentinelForm + ")")
	errAddr      = errors.New("has an addr that is not host:port (write " + clusterForm + ")")
	errNoTLS     = errors.New("has skip_verify without TLS (write rediss://, or leave it out)")
	errPlain     = errors.New("is without TLS, which tls_ca, tls_cert and tls_key are for (write rediss://, or remove them)")
	errSocket    = errors.New("is a socket, which takes no addr and no master_name (write unix:///run/redis.sock?db=0)")
)

// parameters are what may stand behind the ? of each kind. go-redis reads more; what would be ignored, or make us read from
// replicas, is refused.
var parameters = map[kind][]string{
	single:   {"db", "skip_verify", "protocol"},
	sentinel: {"master_name", "addr", "username", "password", "db", "skip_verify", "protocol"},
	cluster:  {"addr", "protocol"},
}

// instead says what to write for a parameter of go-redis that has a key in the file, or a place of its own.
var instead = map[string]string{ //nolint:gosec // the form to write, no credential
	"pool_size": "write pool_size in [redis]", "dial_timeout": "write connect_timeout_secs in [redis]",
	"read_timeout": "write command_timeout_secs in [redis]", "write_timeout": "write command_timeout_secs in [redis]",
	"username": "write redis://user:password@host", "password": "write redis://user:password@host",
	"skip_verify": "write tls_ca in [redis]", "db": "leave it out",
}

func (k kind) check(u *url.URL, query url.Values) error {
	if err := checkServer(u, k); err != nil {
		return err
	}
	if err := checkParameters(query, k); err != nil {
		return err
	}
	if query.Has("skip_verify") && u.Scheme != "rediss" {
		return errNoTLS
	}
	return checkDatabase(u, query, k)
}

func checkServer(u *url.URL, k kind) error {
	password, given := u.User.Password()
	switch {
	case u.Scheme == "unix" && k != single:
		return errSocket
	case u.Scheme == "unix":
		return nil
	case strings.Contains(u.Scheme, "sentinel"), strings.Contains(u.Scheme, "cluster"), strings.Contains(u.Host, ","):
		return errList
	case u.Scheme != "redis" && u.Scheme != "rediss", u.Hostname() == "", u.Fragment != "", !isPort(u.Port()):
		return ErrURL
	case u.User != nil && (!given || password == ""):
		return errUser
	}
	return nil
}

// isPort takes "" for the default.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

func checkParameters(query url.Values, k kind) error {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		switch {
		case !slices.Contains(parameters[k], name):
			return unknownParameter(name, k)
		case name != "addr" && len(values) > 1:
			return fmt.Errorf("has %s twice (write it once)", name)
		}
	}
	if k == sentinel && query.Get("master_name") == "" {
		return errMaster
	}
	for _, addr := range query["addr"] {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || !isPort(port) {
			return errAddr
		}
	}
	return nil
}

// unknownParameter names only what it knows: the rest may be the end of a password.
func unknownParameter(name string, k kind) error {
	if hint, ok := instead[name]; ok {
		return fmt.Errorf("has %s, which is not read there (%s)", name, hint)
	}
	return fmt.Errorf("has a parameter that is not read (known here: %s)", strings.Join(parameters[k], ", "))
}

func checkDatabase(u *url.URL, query url.Values, k kind) error {
	database := strings.Trim(u.Path, "/")
	if u.Scheme == "unix" {
		database = ""
	}
	if k == cluster && database != "" && database != "0" {
		return errClusterDB
	}
	for _, text := range []string{database, query.Get("db")} {
		if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 0) {
			return errDatabase
		}
	}
	return nil
}

// misread explains the mistakes that are common in what is no URL at all.
func misread(text string) error {
	_, rest, _ := strings.Cut(text, "://")
	_, host, found := strings.Cut(rest, "@")
	if !found {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	if strings.Contains(host, ",") {
		return errList
	}
	return ErrURL
}
