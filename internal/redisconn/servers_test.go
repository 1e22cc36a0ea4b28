package redisconn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

const within = 30 * time.Second

// patient is config on a busy machine, where a handshake takes long.
func patient(url string) redisconn.Config {
	cfg := config(url)
	cfg.ConnectTimeoutSecs, cfg.CommandTimeoutSecs = 20, 20
	return cfg
}

// endless is for what must not wait: any time-out takes longer than the test.
func endless(url string) redisconn.Config {
	cfg := config(url)
	cfg.ConnectTimeoutSecs, cfg.CommandTimeoutSecs = 3600, 3600
	return cfg
}

// keeps reports whether client writes and reads.
func keeps(t *testing.T, client redis.UniversalClient) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := redisconn.Ping(ctx, client); err != nil {
		return err
	}
	for i := range 20 { // of a Cluster, every node gets some
		key := fmt.Sprintf("key:%d", i)
		if err := client.Set(ctx, key, i, 0).Err(); err != nil {
			return err
		}
		if got, err := client.Get(ctx, key).Int(); err != nil || got != i {
			return fmt.Errorf("get %s: %d %w", key, got, err)
		}
	}
	return nil
}

func TestAnACLUserGetsWhatItMay(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, "user default off", "user app on >s3cret ~key:* +@all -info")
	client := open(t, patient("redis://app:s3cret@"+server.Address()))
	require.NoError(t, keeps(t, client))
	require.ErrorContains(t, client.Set(t.Context(), "other", 1, 0).Err(), "NOPERM")
	for _, url := range []string{"redis://app:wrong@" + server.Address(), "redis://:s3cret@" + server.Address()} {
		require.ErrorContains(t, open(t, patient(url)).Ping(t.Context()).Err(), "WRONGPASS")
	}
	require.ErrorContains(t, open(t, patient("redis://"+server.Address())).Ping(t.Context()).Err(), "NOAUTH")
}

func TestTheNextMasterIsFoundThroughSentinel(t *testing.T) {
	t.Parallel()
	const auth = "user default off\nuser app on >s3cret ~* &* +@all"
	const follow = "masteruser app\nmasterauth s3cret"
	master := testenv.NewRedis(t, auth, follow)
	replica := testenv.NewRedis(t, auth, follow, "replicaof 127.0.0.1 "+master.Port(), "repl-diskless-sync-delay 0")
	sentinel := testenv.NewSentinel(t, "user default off\nuser watch on >w4tch ~* &* +@all",
		"sentinel monitor shop 127.0.0.1 "+master.Port()+" 1",
		"sentinel auth-user shop app", "sentinel auth-pass shop s3cret",
		"sentinel down-after-milliseconds shop 500", "sentinel failover-timeout shop 2000")
	url := "redis://watch:w4tch@" + sentinel.Address() + "/2?master_name=shop&username=app&password=s3cret&addr=" + sentinel.Address()
	client := open(t, patient(url))
	require.NoError(t, keeps(t, client))
	direct := open(t, patient("redis://app:s3cret@"+master.Address()+"/2"))
	require.Equal(t, int64(20), direct.DBSize(t.Context()).Val(), "in the database that the URL names")

	testenv.Eventually(t, within, func() error {
		watch := open(t, patient("redis://watch:w4tch@"+sentinel.Address()))
		if n, err := watch.Do(t.Context(), "SENTINEL", "REPLICAS", "shop").Slice(); err != nil || len(n) != 1 {
			return fmt.Errorf("the Sentinel knows %d replicas: %w", len(n), err)
		}
		return nil
	})
	master.Stop(t)
	testenv.Eventually(t, within, func() error { return keeps(t, client) })
	direct = open(t, patient("redis://app:s3cret@"+replica.Address()+"/2"))
	require.Equal(t, "master", direct.Do(t.Context(), "ROLE").Val().([]any)[0])
}

func TestSentinelsThatAreAwayAreSaidWithoutPasswords(t *testing.T) {
	t.Parallel()
	sentinel := testenv.NewSentinel(t)
	for name, test := range map[string]struct{ url, says string }{
		"away":             {away + "?master_name=shop&username=app&password=s3cret", "connection refused"},
		"another's master": {"redis://" + sentinel.Address() + "?master_name=shop&username=app&password=s3cret", "all sentinels specified"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := open(t, endless(test.url)).Ping(ctx).Err()
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

// newCluster starts three masters with a third of the slots each.
func newCluster(t *testing.T, settings ...string) []*testenv.RedisServer {
	t.Helper()
	var nodes []*testenv.RedisServer
	for range 3 {
		settings := append([]string{"cluster-enabled yes", "cluster-node-timeout 1000"}, settings...)
		nodes = append(nodes, testenv.NewRedis(t, settings...))
	}
	for i, node := range nodes {
		client := open(t, patient(node.URL()))
		require.NoError(t, client.ClusterAddSlotsRange(t.Context(), i*16384/3, (i+1)*16384/3-1).Err())
		require.NoError(t, client.ClusterMeet(t.Context(), "127.0.0.1", nodes[0].Port()).Err())
	}
	for _, node := range nodes {
		client := open(t, patient(node.URL()))
		testenv.Eventually(t, within, func() error {
			info, err := client.ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_size:3")) {
				err = errors.New(info)
			}
			return err
		})
	}
	return nodes
}

func TestEveryNodeOfAClusterIsUsedAndAsked(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	url := "redis://" + nodes[0].Address() + "?addr=" + nodes[0].Address() // the others are learnt from it
	client := open(t, patient(url))
	testenv.Eventually(t, within, func() error { return keeps(t, client) })
	for _, node := range nodes {
		require.Positive(t, open(t, patient(node.URL())).DBSize(t.Context()).Val())
	}
	nodes[2].Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.ErrorContains(t, redisconn.Ping(ctx, client), "connection refused", "the others answer")
	nodes[2].Start(t)
	testenv.Eventually(t, within, func() error { return keeps(t, client) })
}

func TestOneOfTheAddressesOfAClusterDoes(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	gone := away[len("redis://app:s3cret@"):]
	client := open(t, patient("redis://"+gone+"/0?addr="+nodes[1].Address()))
	testenv.Eventually(t, within, func() error { return keeps(t, client) })
}

func TestTLSTakesACertificateOfOnesOwn(t *testing.T) {
	t.Parallel()
	ca, cert, key := certificates(t)
	server := testenv.NewRedis(t, "tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+ca) // it asks clients for theirs
	cfg := patient("rediss://" + server.Address())
	cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = ca, cert, key
	require.NoError(t, keeps(t, open(t, cfg)))

	refused := func(change func(*redisconn.Config)) string {
		cfg := cfg
		change(&cfg)
		err := open(t, cfg).Ping(t.Context()).Err()
		require.Error(t, err)
		return err.Error()
	}
	require.Contains(t, refused(func(c *redisconn.Config) { c.TLSCA = "" }), "certificate signed by unknown authority")
	testenv.Eventually(t, within, func() error { // the reset of the connection may be faster than what it says
		said := refused(func(c *redisconn.Config) { c.TLSCert, c.TLSKey = "", "" })
		if !strings.Contains(said, "certificate required") {
			return errors.New(said)
		}
		return nil
	})
	require.Contains(t, refused(func(c *redisconn.Config) { c.URL = secret.String("rediss://localhost:" + server.Port()) }), "wanted to match localhost")
	require.NotEmpty(t, refused(func(c *redisconn.Config) { *c = patient(server.URL()) }), "without TLS")
	blind := cfg
	blind.TLSCA, blind.URL = "", cfg.URL+"?skip_verify=true"
	require.NoError(t, keeps(t, open(t, blind)))
}

func TestTLSOfAClusterAndOfSentinelsChecksEachServer(t *testing.T) {
	t.Parallel()
	ca, cert, key := certificates(t)
	secure := []string{"tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + ca, "tls-auth-clients no", "tls-replication yes"}
	master := testenv.NewRedis(t, secure...)
	sentinel := testenv.NewSentinel(t, append(secure, "sentinel monitor shop 127.0.0.1 "+master.Port()+" 1")...)
	cfg := patient("rediss://" + sentinel.Address() + "?master_name=shop")
	cfg.TLSCA = ca
	client := open(t, cfg)
	testenv.Eventually(t, within, func() error { return keeps(t, client) })
	cfg.TLSCA = ""
	require.ErrorContains(t, open(t, cfg).Ping(t.Context()).Err(), "unknown authority")
}

// certificates are those of a server at 127.0.0.1, which signed itself.
func certificates(t *testing.T) (ca, cert, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711)) // the servers run as another user
	cert, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o644))
	return cert, cert, keyFile
}
