package natsconn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Concurrent(8)
	goleak.VerifyTestMain(m)
}

// start runs a server on the port of target, "" for any, and returns its URL and how it ends.
func start(t *testing.T, options server.Options) (url string, stop func()) {
	t.Helper()
	options.Host, options.NoSigs, options.NoLog = "127.0.0.1", true, true
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&options)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(30*time.Second))
	stop = func() { s.Shutdown(); s.WaitForShutdown() }
	t.Cleanup(stop)
	return s.ClientURL(), stop
}

func open(t *testing.T, cfg natsconn.Config) *natsconn.Conn {
	t.Helper()
	conn, err := natsconn.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func port(t *testing.T, url string) int {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", url[len("nats://"):])
	require.NoError(t, err)
	return address.Port
}

// silent accepts connections and never says a word, as a stopped process does.
func silent(t *testing.T) (url string) {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return "nats://" + listener.Addr().String()
}

// within fails the test when f takes longer.
func within(t *testing.T, most time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	require.Less(t, time.Since(begin), most)
}

func isUp(conn *natsconn.Conn) func() error { return conn.Down }

func isDown(conn *natsconn.Conn) func() error {
	return func() error {
		if conn.Down() == nil {
			return errors.New("connected")
		}
		return nil
	}
}

func TestOpenConnects(t *testing.T) {
	t.Parallel()
	url, _ := start(t, server.Options{})
	conn := open(t, natsconn.Config{URL: secret.String(url)})
	require.NoError(t, conn.Down(), "it is known as soon as Open returns")
	require.NoError(t, conn.FlushTimeout(10*time.Second))
	require.Equal(t, "observer", conn.Opts.Name)
	require.False(t, conn.Ended())
}

func TestConnFollowsItsServer(t *testing.T) {
	t.Parallel()
	url, stop := start(t, server.Options{})
	conn := open(t, natsconn.Config{URL: secret.String(url)})
	stop()
	testenv.Eventually(t, 10*time.Second, isDown(conn))
	require.Error(t, conn.Publish("orders", nil), "nothing is kept for later")
	require.False(t, conn.Ended())

	start(t, server.Options{Port: port(t, url)})
	testenv.Eventually(t, 30*time.Second, isUp(conn))
	require.NoError(t, conn.Publish("orders", nil))
}

func TestOpenWithoutAServerFindsItLater(t *testing.T) {
	t.Parallel()
	url, stop := start(t, server.Options{})
	stop()
	conn := open(t, natsconn.Config{URL: secret.String(url)})
	require.ErrorContains(t, conn.Down(), "connection refused")
	start(t, server.Options{Port: port(t, url)})
	testenv.Eventually(t, 30*time.Second, isUp(conn))
}

func TestOpenTriesEachServer(t *testing.T) {
	t.Parallel()
	away, stop := start(t, server.Options{})
	stop()
	url, _ := start(t, server.Options{})
	conn := open(t, natsconn.Config{URL: secret.String(away + ", " + url)})
	require.NoError(t, conn.Down())
}

func TestASilentServerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"one": silent(t), "two": silent(t) + "," + silent(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var conn *natsconn.Conn
			within(t, 2*time.Second, func() {
				var err error
				conn, err = natsconn.Open(ctx, natsconn.Config{URL: secret.String(url)})
				require.NoError(t, err)
			})
			require.Error(t, conn.Down())
			<-time.After(1500 * time.Millisecond) // it looks for a server again, under its lock
			within(t, time.Second, func() { require.Error(t, conn.Down()) })
			conn.Interrupt()
			within(t, 2*time.Second, conn.Close)
			require.True(t, conn.IsClosed())
		})
	}
}

func TestCloseIsQuick(t *testing.T) {
	t.Parallel()
	url, stop := start(t, server.Options{})
	conn := open(t, natsconn.Config{URL: secret.String(url)})
	within(t, time.Second, conn.Close)
	testenv.Eventually(t, 10*time.Second, func() error {
		if !conn.Ended() {
			return errors.New("not ended")
		}
		return nil
	})
	require.Error(t, conn.Down())
	stop()
	conn = open(t, natsconn.Config{URL: secret.String(url)})
	within(t, time.Second, conn.Close)
}

func TestWrongTokenIsSaidAndMendsItself(t *testing.T) {
	t.Setenv("NATSCONN_TOKEN", "guess")
	url, stop := start(t, server.Options{Authorization: "s3cret"})
	conn := open(t, natsconn.Config{URL: secret.String(url), TokenEnv: "NATSCONN_TOKEN"})
	require.ErrorIs(t, conn.Down(), nats.ErrAuthorization)
	<-time.After(2500 * time.Millisecond) // nats.go gives up at the second refusal unless it is told not to
	require.False(t, conn.Ended())
	require.ErrorIs(t, conn.Down(), nats.ErrAuthorization)
	stop()
	start(t, server.Options{Port: port(t, url), Authorization: "guess"})
	testenv.Eventually(t, 30*time.Second, isUp(conn))
}

func TestDeniedTellsWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	user := &server.User{Username: "app", Password: "s3cret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"orders.>"}}}}
	url, _ := start(t, server.Options{Users: []*server.User{user}})
	conn := open(t, natsconn.Config{URL: secret.String("nats://app:s3cret@" + url[len("nats://"):])})
	require.Empty(t, conn.Denied())
	require.NoError(t, conn.Publish("orders.shipped", nil))
	testenv.Eventually(t, 10*time.Second, func() error {
		if conn.Denied() == "" {
			return errors.New("nothing said")
		}
		return nil
	})
	require.Contains(t, conn.Denied(), `"orders.shipped"`)
	require.NoError(t, conn.Down())
}

func TestConfigErrorsNameTheirKeyAndNoSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage, missing := filepath.Join(dir, "garbage"), filepath.Join(dir, "missing")
	require.NoError(t, os.WriteFile(garbage, []byte("no PEM"), 0o600))
	const good = "nats://127.0.0.1:1"
	tests := map[string]struct {
		cfg  natsconn.Config
		want string
	}{
		"a URL with a space":               {natsconn.Config{URL: "nats://app:s3cret@ho st"}, "url is no list of NATS servers"},
		"a URL of another kind":            {natsconn.Config{URL: "https://app:s3cret@host"}, "url is no list of NATS servers"},
		"a URL with a port that is none":   {natsconn.Config{URL: "nats://app:s3cret@host:x"}, "url is no list of NATS servers"},
		"no URL":                           {natsconn.Config{}, "url is no list of NATS servers"},
		"a comma too many":                 {natsconn.Config{URL: good + ","}, "url is no list of NATS servers"},
		"two kinds of URL":                 {natsconn.Config{URL: good + ",ws://app:s3cret@host"}, "url is no list of NATS servers"},
		"a variable that is not set":       {natsconn.Config{URL: good, TokenEnv: "NATSCONN_UNSET"}, "read token_env: the environment variable NATSCONN_UNSET is not set"},
		"no file of certificates":          {natsconn.Config{URL: good, TLSCA: missing}, "read tls_ca: "},
		"a file without certificates":      {natsconn.Config{URL: good, TLSCA: garbage}, "read tls_ca: "},
		"no client certificate":            {natsconn.Config{URL: good, TLSCert: missing, TLSKey: missing}, "read tls_cert: "},
		"a client certificate without key": {natsconn.Config{URL: good, TLSCert: garbage}, "set both or none"},
		"no file of credentials":           {natsconn.Config{URL: good, CredentialsFile: missing}, "read credentials_file: "},
		"a file that holds no credentials": {natsconn.Config{URL: good, CredentialsFile: garbage}, "read credentials_file: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := natsconn.Open(t.Context(), test.cfg)
			require.ErrorContains(t, err, "connect to NATS: ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestCheckTakesWhatNATSTakes(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://host:4222", "host", "host:4222", "tls://user:password@host", "nats://a:1, nats://b:2", "ws://host:80", "nats://[::1]:4222"} {
		require.NoError(t, natsconn.Config{URL: secret.String(url)}.Check(), url)
	}
}

// Not parallel: it takes the place of stderr.
func TestNothingIsPrinted(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	stderr := os.Stderr
	os.Stderr = write
	defer func() { os.Stderr = stderr }()
	user := &server.User{Username: "app", Password: "s3cret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{">"}}}}
	url, stop := start(t, server.Options{Users: []*server.User{user}})
	conn := open(t, natsconn.Config{URL: secret.String("nats://app:s3cret@" + url[len("nats://"):])})
	require.NoError(t, conn.Publish("orders", nil))
	testenv.Eventually(t, 10*time.Second, func() error {
		if conn.Denied() == "" {
			return errors.New("nothing said")
		}
		return nil
	})
	stop()
	testenv.Eventually(t, 10*time.Second, isDown(conn))
	conn.Close()
	require.NoError(t, write.Close())
	printed, err := io.ReadAll(read)
	require.NoError(t, err)
	require.Empty(t, string(printed))
}
