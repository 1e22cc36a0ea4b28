package config

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fraiseql/observer/pipeline/postgres"
)

// orchestratorGrace is the time after SIGTERM after which orchestrators kill.
const orchestratorGrace = 30 * time.Second

// check finds what is wrong between values, without any network.
func (d *decoder) check() {
	d.checkTopology()
	d.checkPostgres()
	d.checkNATS()
	d.checkRedis()
	d.checkAdmin()
	d.checkNetworks()
	if d.cfg.Performance.ShutdownTimeout >= orchestratorGrace {
		d.warn(d.cfg.At("performance.shutdown_timeout"), "performance.shutdown_timeout",
			"is not below the 30 s after which orchestrators kill", `write "25s", or raise the orchestrator's grace period`)
	}
	d.checkMiddleware("pipeline.middleware", d.cfg.Pipeline.Middleware)
	d.checkIdle()
	d.checkCaching()
	d.checkDedup()
	for i := range d.cfg.Observers {
		d.checkObserver(&d.cfg.Observers[i], at("observers", i))
	}
}

// wrong reports the value of key, unless it or a table around it has a problem already.
func (d *decoder) wrong(key, message, hint string) {
	d.accept(d.cfg.Problem(key, message, hint))
}

// accept adds a problem, unless its key or a table around it has one already, or is there under a misspelt name.
func (d *decoder) accept(p Problem) {
	for k := p.Key; k != ""; k = outside(k) {
		n := d.cfg.values.nodes[k]
		if n != nil && n.bad || n == nil && d.misspelt[k] {
			return
		}
	}
	if !d.blamed[p.Key] || p.Key == "" {
		d.add(p.Position, p.Key, p.Message, p.Hint)
	}
}

const urlForm = "postgres://user:password@host:5432/database" //nolint:gosec // the form to write, no credential

func (d *decoder) checkPostgres() {
	pg := &d.cfg.Transport.Postgres
	switch dsn := pg.URL.Reveal(); {
	case dsn == "":
		if d.readsLog() {
			d.wrong("transport.postgres.url", "is missing", "set it, or DATABASE_URL, to "+urlForm)
		}
	case !looksLikeDSN(dsn):
		d.wrong("transport.postgres.url", "is not the URL of a Postgres database", "write "+urlForm)
	default:
		if err := postgres.CheckURL(dsn); err != nil {
			d.wrong("transport.postgres.url", err.Error(), "")
		}
	}
	if s := pg.StartFrom; s != "now" && s != "beginning" {
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			d.wrong("transport.postgres.start_from", "is neither a word nor a time", `write "now", "beginning" or an RFC 3339 time such as "2026-01-31T12:00:00Z"`)
		}
	}
	for key, value := range map[string]string{
		"listener_name": pg.ListenerName, "notify_channel": pg.NotifyChannel,
	} {
		if value == "" {
			d.wrong("transport.postgres."+key, "is empty", "remove it for the default")
		}
	}
}

// looksLikeDSN accepts the two forms that Postgres clients take: a URL, and "host=… dbname=…".
func looksLikeDSN(s string) bool {
	if !strings.Contains(s, "://") {
		return strings.Contains(s, "=")
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

func (d *decoder) checkNATS() {
	n := &d.cfg.Transport.NATS
	if err := n.Check(); err != nil {
		d.wrong("transport.nats.url", err.Error(), "")
	}
	if (n.TLSCert == "") != (n.TLSKey == "") {
		d.wrong("transport.nats.tls_cert", "tls_cert and tls_key belong together", "set both or none")
	}
	if n.JetStream.Retention == "interest" && len(n.JetStream.Groups) == 0 {
		d.wrong("transport.nats.jetstream.groups", `is empty with retention = "interest"`, "name every consumer that must get each event")
	}
	if n.JetStream.MaxAgeDays > 0 {
		d.warn(d.cfg.At("transport.nats.jetstream.max_age_days"), "transport.nats.jetstream.max_age_days",
			"events that were not processed expire too", "write 0 to keep them")
	}
}

func (d *decoder) checkAdmin() {
	a := &d.cfg.Admin
	d.checkVariable("admin.token_env", a.TokenEnv)
	if a.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(a.Listen)
	if err != nil || !validPort(port) {
		d.wrong("admin.listen", "is not host:port", `write "127.0.0.1:7077", or "" to turn it off`)
		return
	}
	if a.TokenEnv == "" && !isLoopback(host) {
		d.wrong("admin.listen", "is reachable from other machines and has no token", "set admin.token_env, or listen on 127.0.0.1")
	}
}

func validPort(s string) bool {
	_, err := netip.ParseAddrPort("127.0.0.1:" + s)
	return err == nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (d *decoder) checkNetworks() {
	for i, cidr := range d.cfg.Security.AllowCIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			d.wrong(at("security.allow_cidrs", i), "is not a network", `write an address and a length, such as "10.0.0.0/8" or "192.0.2.7/32"`)
		}
	}
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkVariable checks a key that names an environment variable. Only the command that runs the observers needs it set.
func (d *decoder) checkVariable(key, name string) {
	switch {
	case name == "":
	case !variableName.MatchString(name):
		d.wrong(key, "is not the name of an environment variable", "write the name, such as WEBHOOK_URL, not the value")
	case d.opts.Needs == NeedsAll && os.Getenv(name) == "":
		d.wrong(key, "the environment variable is not set"+d.shownAt(key), "set it")
	}
}

func (d *decoder) checkMiddleware(key string, names []string) {
	for i, name := range names {
		if !slices.Contains(d.opts.Middleware, name) {
			hint := "register it in the program"
			if len(d.opts.Middleware) > 0 {
				hint = hintFor(name, d.opts.Middleware)
			}
			d.wrong(at(key, i), "no such middleware is registered"+d.shownAt(at(key, i)), hint)
		}
	}
}
