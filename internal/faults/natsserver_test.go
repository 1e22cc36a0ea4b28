package faults

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// natsEnv makes the test binary a nats-server with the configuration file that it names.
const natsEnv = "OBSERVER_FAULTS_NATS"

// runNATS is the server's own program. It ends when its parent does.
func runNATS(file string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return 0
}

// natsNode is a server that runs as a process of its own.
type natsNode struct {
	file, log, url string
	cmd            *exec.Cmd
	alive          io.Closer
}

// natsCluster starts n servers, with JetStream, that form a cluster when they are several.
func natsCluster(t *testing.T, n int) []*natsNode {
	t.Helper()
	dir := t.TempDir()
	ports := freePorts(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
	}
	nodes := make([]*natsNode, n)
	for i := range nodes {
		text := fmt.Sprintf("server_name: n%d\nlisten: 127.0.0.1:%d\nlog_file: %q\njetstream { store_dir: %q }\n", i, ports[i],
			filepath.Join(dir, fmt.Sprintf("n%d.log", i)), filepath.Join(dir, fmt.Sprintf("n%d", i)))
		if n > 1 {
			text += fmt.Sprintf("cluster { name: faults, listen: 127.0.0.1:%d, routes: [%s] }\n", ports[n+i], strings.Join(routes, ", "))
		}
		nodes[i] = &natsNode{file: filepath.Join(dir, fmt.Sprintf("n%d.conf", i)), log: filepath.Join(dir, fmt.Sprintf("n%d.log", i)), url: fmt.Sprintf("nats://127.0.0.1:%d", ports[i])}
		require.NoError(t, os.WriteFile(nodes[i].file, []byte(text), 0o600))
		nodes[i].start(t)
		t.Cleanup(nodes[i].kill)
	}
	ready(t, nodes, n)
	return nodes
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, listener.Close()) }() // only then may others have it
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func (n *natsNode) start(t *testing.T) {
	t.Helper()
	n.cmd = exec.CommandContext(context.Background(), os.Args[0])
	n.cmd.Env = append(os.Environ(), natsEnv+"="+n.file)
	alive, err := n.cmd.StdinPipe()
	require.NoError(t, err)
	n.alive = alive
	n.cmd.Stderr = os.Stderr
	require.NoError(t, n.cmd.Start())
}

// kill ends the process at once.
func (n *natsNode) kill() {
	_ = n.cmd.Process.Kill() // it may have ended
	_ = n.cmd.Wait()
	_ = n.alive.Close()
}

// urls is the address of a cluster.
func urls(nodes []*natsNode) string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = n.url
	}
	return strings.Join(list, ",")
}

// ready waits until the cluster can keep that many copies.
func ready(t *testing.T, nodes []*natsNode, replicas int) {
	t.Helper()
	testenv.Eventually(t, 2*within, func() error {
		conn, err := natsgo.Connect(urls(nodes), natsgo.Timeout(time.Second))
		if err != nil {
			return err
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "probe", Subjects: []string{"probe"}, Replicas: replicas}); err != nil {
			return err
		}
		return js.DeleteStream(ctx, "probe")
	})
}
