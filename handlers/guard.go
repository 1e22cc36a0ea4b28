package handlers

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"unicode"

	"code.dny.dev/ssrf"
)

// Guard decides which addresses actions may connect to. It judges the address that is dialled, after the name was
// resolved, so that a name cannot point somewhere else between check and use.
type Guard struct {
	public  func(netip.Addr) error
	private string
	allowed []netip.Prefix
}

// NewGuard builds the guard that cfg describes; the zero config is "static" without exceptions.
func NewGuard(cfg SecurityConfig) (*Guard, error) {
	g := &Guard{private: cfg.PrivateNetworks, public: ssrf.New().SafeAddr}
	switch cfg.PrivateNetworks {
	case "":
		g.private = "static"
	case "static", "never", "always":
	default:
		return nil, fmt.Errorf(`read private_networks: %q is not "static", "never" or "always"`, cfg.PrivateNetworks)
	}
	for _, cidr := range cfg.AllowCIDRs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf(`read allow_cidrs: %q is not a network (write it as "10.0.0.0/8")`, cidr)
		}
		g.allowed = append(g.allowed, unmapPrefix(p))
	}
	return g, nil
}

// Control returns the function that a [net.Dialer] calls for each address of host before it connects. host is what the
// operator wrote in the file or its environment.
func (g *Guard) Control(host string) func(network, address string, _ syscall.RawConn) error {
	private := g.mayBePrivate(host)
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read address %q: %w", address, err)
		}
		return g.check(ap.Addr(), private)
	}
}

// mayBePrivate reports whether host may lead to a private address.
func (g *Guard) mayBePrivate(host string) bool {
	return g.private == "always" || g.private == "static" && namesPrivate(host)
}

// refuses returns why host can never be reached. What a name leads to shows when it is dialled.
func (g *Guard) refuses(host string) error {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		return g.check(ip, g.mayBePrivate(host))
	case endsInNumber(host):
		return errors.New("has an unusual form of an IPv4 address as its host: write four decimal numbers, such as 192.0.2.1")
	}
	return nil
}

// endsInNumber reports whether some resolvers would read a name as an IPv4 address, such as 127.1, 0x7f000001 or one in
// digits of another script, while others ask the DNS: https://url.spec.whatwg.org/#ends-in-a-number-checker
func endsInNumber(host string) bool {
	labels := strings.FieldsFunc(host, func(r rune) bool { return strings.ContainsRune(".\u3002\uff0e\uff61", r) })
	if len(labels) == 0 {
		return false
	}
	last := strings.ToLower(labels[len(labels)-1])
	if hex, ok := strings.CutPrefix(last, "0x"); ok && strings.Trim(hex, "0123456789abcdef") == "" {
		return true
	}
	return strings.TrimFunc(last, unicode.IsNumber) == ""
}

func (g *Guard) check(ip netip.Addr, private bool) error {
	ip = ip.WithZone("").Unmap()
	for _, p := range g.allowed {
		if p.Contains(ip) {
			return nil
		}
	}
	if isMetadata(ip) {
		return &blockedError{ip, "serves cloud metadata"}
	}
	if private {
		return nil
	}
	if g.public(ip) != nil {
		return &blockedError{ip, "is not public"}
	}
	return nil
}

// blockedError says that the guard refused an address.
type blockedError struct {
	ip  netip.Addr
	why string
}

func (e *blockedError) Error() string {
	return fmt.Sprintf("address %s %s: allow it with allow_cidrs in [security] if that is meant", e.ip, e.why)
}

// namesPrivate reports whether an operator who writes host means something on their own network.
func namesPrivate(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, suffix := range []string{".internal", ".local", ".svc"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return host != "" && !strings.Contains(host, ".")
}

// metadata lists where clouds serve credentials to their machines: AWS, GCP, Azure and most others (link-local), Alibaba,
// Oracle, Azure's wire server; over IPv6 AWS, GCP, Scaleway, Linode and OpenStack.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("192.0.0.192/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("fd00:ec2::/32"),
	netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("fd00:42::42/128"),
	netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),
	netip.MustParsePrefix("fe80::a9fe:a9fe/128"),
}

func isMetadata(ip netip.Addr) bool {
	for _, p := range metadata {
		if p.Contains(ip) || p.Contains(embedded(ip)) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a translating IPv6 address leads to (NAT64 of RFC 6052 and RFC 8215, 6to4, Teredo,
// SIIT, and the old IPv4-compatible form), else ip itself.
func embedded(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return ip
	}
	b := ip.As16()
	switch {
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6]))
	case teredo.Contains(ip): // which inverts it: RFC 4380, section 4
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
	case nat64.Contains(ip), localNAT64.Contains(ip), translated.Contains(ip), compatible.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return ip
}

var (
	nat64      = ssrf.IPv6NAT64Prefix
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	teredo     = netip.MustParsePrefix("2001::/32")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
)

// unmapPrefix writes a prefix over IPv4-mapped addresses as one over IPv4.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}
