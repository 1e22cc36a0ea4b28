package handlers_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/handlers"
)

// dial asks the guard about one address of a host, as the dialer does after it resolved the name.
func dial(t *testing.T, cfg handlers.SecurityConfig, host, ip string) error {
	t.Helper()
	g, err := handlers.NewGuard(cfg)
	require.NoError(t, err)
	return g.Control(host)("tcp", net.JoinHostPort(ip, "8080"), nil)
}

var (
	publicIPs  = []string{"8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8"}
	privateIPs = []string{
		"127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "198.18.0.1", "::1", "::", "fd12::1", "fe80::1",
		"fe80::1%lo", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2001:db8::1", "fec0::1", "ff02::1",
	}
	metadataIPs = []string{
		"169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
		"fd00:42::42", "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe", "fe80::a9fe:a9fe%lo",
		"::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
		"2001:0:4136:e378:8000:63bf:5601:5601", "::ffff:0:169.254.169.254",
	}
)

func TestGuardStaticTrustsOnlyHostsThatNameThePrivateNetwork(t *testing.T) {
	for _, host := range []string{"localhost", "LOCALHOST", "10.0.0.1", "::1", "receiver", "receiver.", "a.internal", "a.Local", "hooks.default.svc", "hooks.default.svc.cluster.local"} {
		for _, ip := range append(privateIPs, publicIPs...) {
			require.NoError(t, dial(t, handlers.SecurityConfig{}, host, ip), "%s at %s", host, ip)
		}
	}
	for _, host := range []string{"example.com", "internal.example.com", "10.0.0.1.nip.io", "svc.example", "0x7f.1", "local.test"} {
		for _, ip := range publicIPs {
			require.NoError(t, dial(t, handlers.SecurityConfig{PrivateNetworks: "static"}, host, ip), "%s at %s", host, ip)
		}
		for _, ip := range privateIPs {
			require.ErrorContains(t, dial(t, handlers.SecurityConfig{PrivateNetworks: "static"}, host, ip), "is not public", "%s at %s", host, ip)
		}
	}
}

func TestGuardNeverAndAlways(t *testing.T) {
	for _, ip := range privateIPs {
		require.Error(t, dial(t, handlers.SecurityConfig{PrivateNetworks: "never"}, "localhost", ip), ip)
		require.NoError(t, dial(t, handlers.SecurityConfig{PrivateNetworks: "always"}, "example.com", ip), ip)
	}
	for _, ip := range publicIPs {
		require.NoError(t, dial(t, handlers.SecurityConfig{PrivateNetworks: "never"}, "example.com", ip), ip)
	}
}

func TestGuardKeepsMetadataAddressesBlocked(t *testing.T) {
	for _, mode := range []string{"static", "never", "always"} {
		for _, ip := range metadataIPs {
			for _, host := range []string{"localhost", "example.com", ip} {
				require.Error(t, dial(t, handlers.SecurityConfig{PrivateNetworks: mode}, host, ip), "%s: %s at %s", mode, host, ip)
			}
		}
	}
	open := handlers.SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"169.254.169.254/32"}}
	require.NoError(t, dial(t, open, "example.com", "169.254.169.254"))
	require.NoError(t, dial(t, open, "example.com", "::ffff:169.254.169.254"))
	require.Error(t, dial(t, open, "example.com", "169.254.170.2"))
}

func TestGuardAllowsListedNetworks(t *testing.T) {
	cfg := handlers.SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"10.1.0.0/16", "::ffff:192.168.0.0/112", "fd12::/16"}}
	for _, ip := range []string{"10.1.2.3", "192.168.7.7", "::ffff:10.1.2.3", "fd12::9"} {
		require.NoError(t, dial(t, cfg, "example.com", ip), ip)
	}
	for _, ip := range []string{"10.2.0.1", "192.169.0.1", "127.0.0.1", "fd13::1"} {
		require.Equal(t, ip == "192.169.0.1", dial(t, cfg, "example.com", ip) == nil, ip)
	}
}

func TestGuardRefusesBadConfig(t *testing.T) {
	_, err := handlers.NewGuard(handlers.SecurityConfig{PrivateNetworks: "sometimes"})
	require.ErrorContains(t, err, `"sometimes" is not "static", "never" or "always"`)
	_, err = handlers.NewGuard(handlers.SecurityConfig{AllowCIDRs: []string{"10.0.0.1"}})
	require.ErrorContains(t, err, `"10.0.0.1" is not a network`)
}
