package handlers

import (
	"context"
	"encoding/binary"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// nameServer answers DNS questions from a table; of several answers, each question gets the next, the last one from then on.
type nameServer struct {
	mu    sync.Mutex // guards what follows
	names map[string][][]string
}

// resolver returns a resolver that asks the server, and nobody else.
func (s *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		question := make([]byte, 512)
		for {
			n, from, err := l.ReadFrom(question)
			if err != nil {
				return
			}
			if _, err := l.WriteTo(s.answer(question[:n]), from); err != nil {
				t.Errorf("answer: %v", err)
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", l.LocalAddr().String())
	}}
}

// answer repeats the header and the one question of a query, and adds the records: RFC 1035, section 4.
func (s *nameServer) answer(query []byte) []byte {
	const header, a, aaaa = 12, 1, 28
	var labels []string
	end := header
	for query[end] != 0 {
		labels = append(labels, string(query[end+1:end+1+int(query[end])]))
		end += 1 + int(query[end])
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	reply := append([]byte(nil), query[:end+5]...)
	addresses := s.next(strings.ToLower(strings.Join(labels, ".")), kind == a)
	var records []byte
	count := uint16(0)
	for _, address := range addresses {
		ip := netip.MustParseAddr(address)
		if ip.Is4() != (kind == a) || kind != a && kind != aaaa {
			continue
		}
		records = append(records, 0xc0, header)
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 0) // class IN, kept for no time
		records = binary.BigEndian.AppendUint16(records, uint16(len(ip.AsSlice())))
		records = append(records, ip.AsSlice()...)
		count++
	}
	flags := uint16(0x8580) // an answer with authority
	if addresses == nil {
		flags |= 3 // no such name
	}
	binary.BigEndian.PutUint16(reply[2:], flags)
	for i, n := range []uint16{1, count, 0, 0} {
		binary.BigEndian.PutUint16(reply[4+2*i:], n)
	}
	return append(reply, records...)
}

// next returns the addresses of a name. The question for IPv4 addresses moves on, that for IPv6 addresses comes beside it.
func (s *nameServer) next(name string, moves bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.names[name]
	if len(list) == 0 {
		return nil
	}
	if moves && len(list) > 1 {
		s.names[name] = list[1:]
	}
	return list[0]
}

// listenEverywhere listens on one port of all addresses of this machine, answers 200, and counts what connects.
func listenEverywhere(t *testing.T) (port string, connected *atomic.Int64) {
	t.Helper()
	connected = &atomic.Int64{}
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(answerNothing))
	require.NoError(t, s.Listener.Close())
	s.Listener = l
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connected.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port, connected
}

// guardedHTTP returns an HTTP with a guard, and names from the table.
func guardedHTTP(t *testing.T, cfg SecurityConfig, names map[string][][]string) *HTTP {
	t.Helper()
	guard, err := NewGuard(cfg)
	require.NoError(t, err)
	h, err := NewHTTP(HTTPConfig{Guard: guard, Concurrency: 4})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	h.dialer.Resolver = (&nameServer{names: maps.Clone(names)}).resolver(t)
	h.dialer.Timeout = 2 * time.Second
	return h
}

// sendOnce builds the action for a URL and runs it once.
func sendOnce(t *testing.T, h *HTTP, url string) error {
	t.Helper()
	action, err := NewWebhook(&WebhookConfig{URL: secret.String(url)}, Env{HTTP: h, Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	return action.Run(t.Context(), newTestDelivery(`{}`))
}

// requireRefused fails unless err is a mistake in the file, or that the guard blocked an address.
func requireRefused(t *testing.T, err error) {
	t.Helper()
	if len(KeyErrors(err)) == 1 {
		return
	}
	require.Equal(t, "blocked", event.Class(err), "%v", err)
	require.True(t, event.IsPermanent(err), "%v", err)
}

// addressTricks are hosts, as a URL holds them, that lead or seem to lead where "never" allows nobody to go.
var addressTricks = map[string]string{
	"loopback":                            "127.0.0.1",
	"another loopback address":            "127.255.255.254",
	"loopback in short":                   "127.1",
	"loopback in three parts":             "127.0.1",
	"loopback in decimal":                 "2130706433",
	"loopback in octal":                   "0177.0.0.1",
	"loopback in one octal number":        "017700000001",
	"loopback in hex":                     "0x7f.0x0.0x0.0x1",
	"loopback in one hex number":          "0x7f000001",
	"loopback in upper-case hex":          "0X7F000001",
	"loopback in mixed forms":             "0x7f.1",
	"loopback with more zeros":            "127.000.000.001",
	"loopback with a dot at its end":      "127.0.0.1.",
	"loopback with an overflow":           "4294967296127.0.0.1",
	"loopback beyond 32 bits":             "6425673729",
	"loopback in full-width digits":       "１２７.０.０.１",
	"loopback in short full-width digits": "１２７.１",
	"loopback in circled digits":          "①②⑦.⓪.⓪.①",
	"loopback with ideographic stops":     "127。0。0。1",
	"loopback in short with such a stop":  "127。1",
	"loopback, percent-encoded":           "%31%32%37.0.0.1",
	"loopback in UTF-8, percent-encoded":  "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
	"an empty hex number":                 "0x",
	"zero":                                "0",
	"this host":                           "0.0.0.0",
	"this network":                        "0.1.2.3",
	"ten":                                 "10.0.0.1",
	"ten in decimal":                      "167772161",
	"172.16":                              "172.16.0.1",
	"172.31":                              "172.31.255.254",
	"192.168":                             "192.168.0.1",
	"carrier-grade NAT":                   "100.64.0.1",
	"the end of carrier-grade NAT":        "100.127.255.254",
	"link-local":                          "169.254.1.1",
	"protocol assignments":                "192.0.0.8",
	"documentation 1":                     "192.0.2.1",
	"documentation 2":                     "198.51.100.1",
	"documentation 3":                     "203.0.113.1",
	"6to4 relays":                         "192.88.99.1",
	"benchmarks":                          "198.18.0.1",
	"the end of benchmarks":               "198.19.255.254",
	"multicast":                           "224.0.0.1",
	"reserved":                            "240.0.0.1",
	"broadcast":                           "255.255.255.255",
	"AWS, GCP, Azure and others":          "169.254.169.254",
	"the same in decimal":                 "2852039166",
	"the same in hex":                     "0xa9fea9fe",
	"AWS ECS":                             "169.254.170.2",
	"AWS EKS":                             "169.254.170.23",
	"AWS over IPv6":                       "[fd00:ec2::254]",
	"AWS EKS over IPv6":                   "[fd00:ec2::23]",
	"GCP over IPv6":                       "[fd20:ce::254]",
	"Alibaba":                             "100.100.100.200",
	"Oracle":                              "192.0.0.192",
	"Azure's wire server":                 "168.63.129.16",
	"Tencent":                             "169.254.0.23",
	"Scaleway":                            "169.254.42.42",
	"Scaleway over IPv6":                  "[fd00:42::42]",
	"Linode over IPv6":                    "[fd00:a9fe:a9fe::1]",
	"OpenStack over IPv6":                 "[fe80::a9fe:a9fe%25lo]",
	"IPv6 loopback":                       "[::1]",
	"IPv6 loopback at length":             "[0000:0000:0000:0000:0000:0000:0000:0001]",
	"IPv6, this host":                     "[::]",
	"IPv4-mapped loopback":                "[::ffff:127.0.0.1]",
	"IPv4-mapped loopback in hex":         "[::FFFF:7f00:1]",
	"IPv4-mapped metadata":                "[::ffff:169.254.169.254]",
	"IPv4-mapped, this host":              "[::ffff:0.0.0.0]",
	"IPv4-compatible loopback":            "[::127.0.0.1]",
	"IPv4-translated loopback":            "[::ffff:0:127.0.0.1]",
	"NAT64 to loopback":                   "[64:ff9b::7f00:1]",
	"NAT64 to metadata":                   "[64:ff9b::169.254.169.254]",
	"local NAT64 to metadata":             "[64:ff9b:1::a9fe:a9fe]",
	"6to4 to loopback":                    "[2002:7f00:1::]",
	"6to4 to metadata":                    "[2002:a9fe:a9fe::1]",
	"Teredo":                              "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
	"ORCHID":                              "[2001:10::1]",
	"IPv6 link-local":                     "[fe80::1]",
	"IPv6 link-local with a zone":         "[fe80::1%25lo]",
	"loopback with a zone":                "[::1%25lo]",
	"IPv4-mapped loopback with a zone":    "[::ffff:127.0.0.1%25lo]",
	"IPv6 unique local":                   "[fc00::1]",
	"IPv6 unique local, assigned":         "[fd12:3456:789a::1]",
	"IPv6 site-local":                     "[fec0::1]",
	"IPv6 documentation":                  "[2001:db8::1]",
	"IPv6 documentation, new":             "[3fff::1]",
	"IPv6 multicast, all nodes":           "[ff02::1]",
	"IPv6 discard":                        "[100::1]",
	"IPv6 segment routing":                "[5f00::1]",
	"a user that looks like a host":       "example.com@127.0.0.1",
	"a user and password before loopback": "example.com:443@[::1]",
	"two users":                           "example.com@example.org@127.0.0.1",
	"a backslash before loopback":         `example.com\@127.0.0.1`,
	"a backslash after loopback":          `127.0.0.1\.example.com`,
	"a fragment before loopback":          "example.com%23@127.0.0.1",
	"a tab in loopback":                   "127.0.0\t.1",
	"an unclosed bracket":                 "[::1",
	"brackets about an IPv4 address":      "[127.0.0.1]",
	"localhost":                           "localhost",
	"localhost in upper case":             "LOCALHOST",
	"localhost with a dot at its end":     "localhost.",
	"localhost in full-width letters":     "ｌｏｃａｌｈｏｓｔ",
	"a name of loopback":                  "localhost.localdomain",
	"a name below localhost":              "anything.localhost",
	"a public name of loopback":           "127.0.0.1.nip.example",
	"a public name of a private address":  "intranet.example.com",
	"a public name of this host":          "zero.example.com",
	"a public name of IPv6 loopback":      "six.example.com",
	"a public name of NAT64":              "nat64.example.com",
	"a public name of metadata":           "imds.example.com",
	"GCP's name of metadata":              "metadata.google.internal",
	"GCP's name with a dot at its end":    "METADATA.google.internal.",
	"GCP's short name":                    "metadata",
	"GCP's public name":                   "metadata.goog",
	"AWS's name of metadata":              "instance-data",
	"AWS's long name of metadata":         "instance-data.ec2.internal",
	"Alibaba's name of metadata":          "metadata.aliyun.internal",
	"Tencent's name of metadata":          "metadata.tencentyun.com",
	"a name with private addresses only":  "many.example.com",
	"a name for several private families": "families.example.com",
}

// trickNames is what the DNS says about the names in addressTricks.
var trickNames = map[string][][]string{
	"localhost":                  {{"127.0.0.1", "::1"}},
	"localhost.localdomain":      {{"127.0.0.1"}},
	"anything.localhost":         {{"127.0.0.1"}},
	"127.0.0.1.nip.example":      {{"127.0.0.1"}},
	"intranet.example.com":       {{"10.1.2.3"}},
	"zero.example.com":           {{"0.0.0.0", "::"}},
	"six.example.com":            {{"::1"}},
	"nat64.example.com":          {{"64:ff9b::7f00:1"}},
	"imds.example.com":           {{"169.254.169.254"}},
	"metadata.google.internal":   {{"169.254.169.254", "fd20:ce::254"}},
	"metadata":                   {{"169.254.169.254"}},
	"metadata.goog":              {{"169.254.169.254"}},
	"instance-data":              {{"169.254.169.254"}},
	"instance-data.ec2.internal": {{"169.254.169.254", "fd00:ec2::254"}},
	"metadata.aliyun.internal":   {{"100.100.100.200"}},
	"metadata.tencentyun.com":    {{"169.254.0.23"}},
	"many.example.com":           {{"127.0.0.2", "127.0.0.3", "10.0.0.1"}},
	"families.example.com":       {{"127.0.0.1", "::1", "fd00::1"}},
}

func TestGuardRefusesEveryTrick(t *testing.T) {
	port, connected := listenEverywhere(t)
	for name, host := range addressTricks {
		t.Run(name, func(t *testing.T) {
			h := guardedHTTP(t, SecurityConfig{PrivateNetworks: "never"}, trickNames)
			for _, url := range []string{"http://" + host + ":" + port + "/s3cret", "https://" + host + ":" + port + "/s3cret", "http://" + host + "/s3cret"} {
				err := sendOnce(t, h, url)
				requireRefused(t, err)
				require.NotContains(t, err.Error(), "s3cret")
			}
		})
	}
	require.Zero(t, connected.Load())
	require.GreaterOrEqual(t, len(addressTricks), 100)
}

func TestGuardRefusesMetadataInEveryMode(t *testing.T) {
	for _, host := range []string{
		"169.254.169.254", "169.254.170.2", "169.254.42.42", "100.100.100.200", "192.0.0.192", "168.63.129.16", "[fd00:ec2::254]", "[fd20:ce::254]",
		"[fd00:42::42]", "[fd00:a9fe:a9fe::1]", "[fe80::a9fe:a9fe%25lo]", "[::ffff:169.254.169.254]", "[::169.254.169.254]", "[::ffff:0:169.254.169.254]",
		"[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[2001:0:4136:e378:8000:63bf:5601:5601]", "2852039166", "0xA9FEA9FE", "169.254.43518",
		"metadata.google.internal", "metadata", "instance-data.ec2.internal", "imds.example.com", "１６９.２５４.１６９.２５４", "169。254。169。254",
	} {
		for _, mode := range []string{"static", "always", "never"} {
			requireRefused(t, sendOnce(t, guardedHTTP(t, SecurityConfig{PrivateNetworks: mode}, trickNames), "http://"+host+"/"))
		}
	}
	h := guardedHTTP(t, SecurityConfig{AllowCIDRs: []string{"169.254.169.254/32"}}, nil)
	_, err := NewWebhook(&WebhookConfig{URL: "http://169.254.169.254/"}, Env{HTTP: h})
	require.NoError(t, err, "who lists it means it")
}

func TestGuardStaticBelievesTheFileAndNotTheDNS(t *testing.T) {
	port, connected := listenEverywhere(t)
	names := map[string][][]string{
		"receiver": {{"127.0.0.1"}}, "hooks.corp.internal": {{"127.0.0.1"}}, "printer.local": {{"127.0.0.1"}}, "hooks.default.svc": {{"127.0.0.1"}},
		"hooks.default.svc.cluster.local": {{"127.0.0.1"}}, "localhost": {{"127.0.0.1"}},
		"hooks.example.com": {{"127.0.0.1"}}, "internal.example.com": {{"10.0.0.1"}}, "local.example": {{"127.0.0.1"}}, "svc.example": {{"127.0.0.1"}},
		"localhost.example.com": {{"127.0.0.1"}}, "notinternal": {{"127.0.0.1"}}, "a.notinternal": {{"127.0.0.1"}}, "localhost.localdomain": {{"127.0.0.1"}},
	}
	for _, host := range []string{"127.0.0.1", "localhost", "LocalHost.", "[::ffff:127.0.0.1]", "receiver", "notinternal", "hooks.corp.internal", "Printer.LOCAL", "hooks.default.svc", "hooks.default.svc.cluster.local."} {
		before := connected.Load()
		require.NoError(t, sendOnce(t, guardedHTTP(t, SecurityConfig{}, names), "http://"+host+":"+port+"/"), host)
		require.Equal(t, before+1, connected.Load(), host)
	}
	before := connected.Load()
	for _, host := range []string{"hooks.example.com", "internal.example.com", "local.example", "svc.example", "localhost.example.com", "a.notinternal", "localhost.localdomain"} {
		err := sendOnce(t, guardedHTTP(t, SecurityConfig{}, names), "http://"+host+":"+port+"/s3cret")
		require.Equal(t, "blocked", event.Class(err), "%s: %v", host, err)
		require.True(t, event.IsPermanent(err))
		require.ErrorContains(t, err, "is not public: allow it with allow_cidrs in [security] if that is meant")
	}
	require.Equal(t, before, connected.Load())
	require.NoError(t, sendOnce(t, guardedHTTP(t, SecurityConfig{AllowCIDRs: []string{"127.0.0.0/8"}}, names), "http://hooks.example.com:"+port+"/"))
	_, err := NewWebhook(&WebhookConfig{URL: "http://10.0.0.1/"}, Env{HTTP: guardedHTTP(t, SecurityConfig{}, nil)})
	require.NoError(t, err)
}

func TestGuardJudgesEachConnectionAnew(t *testing.T) {
	port, connected := listenEverywhere(t)
	// 127.0.0.1 stands for a public address, since it is the only one that the guard allows.
	h := guardedHTTP(t, SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"127.0.0.1/32"}}, map[string][][]string{
		"rebind.example.com": {{"127.0.0.1"}, {"127.0.0.2"}, {"169.254.169.254"}, {"127.0.0.1"}},
	})
	url := "http://rebind.example.com:" + port + "/"
	require.NoError(t, sendOnce(t, h, url))
	require.EqualValues(t, 1, connected.Load())
	for range 2 {
		h.plain.Close() // ends the connection that is kept
		requireRefused(t, sendOnce(t, h, url))
	}
	require.NoError(t, sendOnce(t, h, url), "it points to a public address again")
	require.EqualValues(t, 2, connected.Load())
}

func TestGuardOfANameWithPublicAndPrivateAddresses(t *testing.T) {
	port, connected := listenEverywhere(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, silent, err := net.SplitHostPort(closed.Addr().String())
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for name, addresses := range map[string][]string{
		"private first": {"127.0.0.2", "127.0.0.1"}, "public first": {"127.0.0.1", "127.0.0.2"}, "of both families": {"::1", "127.0.0.1"}, "metadata": {"169.254.169.254", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := guardedHTTP(t, SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"127.0.0.1/32"}}, map[string][][]string{"both.example.com": {addresses}})
			before := connected.Load()
			require.NoError(t, sendOnce(t, h, "http://both.example.com:"+port+"/"), "it goes to the public one")
			require.Equal(t, before+1, connected.Load())
			err := sendOnce(t, h, "http://both.example.com:"+silent+"/")
			require.Error(t, err)
			require.False(t, event.IsPermanent(err), "the public one may answer again: %v", err)
		})
	}
}

func TestGuardIsNotLedByARedirect(t *testing.T) {
	port, connected := listenEverywhere(t)
	for _, to := range []string{"http://127.0.0.2:" + port, "http://[::1]:" + port, "http://localhost:" + port, "//127.0.0.2:" + port + "/", "http://169.254.169.254/"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}))
		err := sendOnce(t, guardedHTTP(t, SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"127.0.0.1/32"}}, nil), s.URL)
		require.Equal(t, "http_307", event.Class(err))
		require.True(t, event.IsPermanent(err))
		s.Close()
	}
	require.Zero(t, connected.Load())
}

func TestGuardAsksNoProxy(t *testing.T) {
	port, connected := listenEverywhere(t)
	for _, variable := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(variable, "http://127.0.0.1:"+port)
	}
	h := guardedHTTP(t, SecurityConfig{PrivateNetworks: "never", AllowCIDRs: []string{"127.0.0.1/32"}}, map[string][][]string{"intranet.example.com": {{"10.1.2.3"}}})
	for _, scheme := range []string{"http", "https"} {
		requireRefused(t, sendOnce(t, h, scheme+"://intranet.example.com/"))
	}
	require.Nil(t, h.secure[tlsFiles{}].transport.Proxy, "net/http reads the variables once in a process")
	require.Zero(t, connected.Load())
}

func TestGuardLeavesNamesThatDoNotResolveToARetry(t *testing.T) {
	err := sendOnce(t, guardedHTTP(t, SecurityConfig{PrivateNetworks: "never"}, nil), "http://nowhere.example.com/s3cret")
	require.Equal(t, "dns", event.Class(err))
	require.False(t, event.IsPermanent(err))
	require.NotContains(t, err.Error(), "s3cret")
}

func TestGuardTakesNamesForNumbersOnlyWhereTheyAre(t *testing.T) {
	for host, want := range map[string]bool{
		"127.1": true, "0x7f": true, "0x": true, "1.2.3.4.5": true, "example.1": true, "example.0xAB": true, "１": true, "a.1.": true,
		"example.com": false, "1.example": false, "0xcafe.example": false, "0xyz": false, "3com": false, "x1": false, "1x": false, "bücher.example": false,
		"1-2": false, "": false, ".": false, "cafe": false, "10.0.0.1.nip.io": false,
	} {
		require.Equal(t, want, endsInNumber(host), host)
	}
}
