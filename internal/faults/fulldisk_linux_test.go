package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk is a file system of 16 MiB, which can be full while that of the machine is not. Only root may have one.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o700))
	switch err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		t.Skipf("mounting a tmpfs: %v: a full disk cannot be had without", err)
	default:
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill writes a file into a directory until its disk is full, and returns its name.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	file, err := os.Create(name)
	require.NoError(t, err)
	for part := make([]byte, 4<<10); err == nil; {
		_, err = file.Write(part)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, file.Close())
	return name
}

// natsOn is a server that keeps its streams in a directory, and lets them reserve more than there is.
func natsOn(t *testing.T, store string) *natsNode {
	t.Helper()
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	n := &natsNode{file: filepath.Join(dir, "n.conf"), log: filepath.Join(dir, "n.log"), url: fmt.Sprintf("nats://127.0.0.1:%d", port)}
	text := fmt.Sprintf("listen: 127.0.0.1:%d\nlog_file: %q\njetstream { store_dir: %q, max_file_store: 1TB }\n", port, n.log, store)
	require.NoError(t, os.WriteFile(n.file, []byte(text), 0o600))
	n.start(t)
	t.Cleanup(n.kill)
	ready(t, []*natsNode{n}, 1)
	return n
}

// shutDown ends the process as an operator does.
func (n *natsNode) shutDown() {
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it runs
	_ = n.cmd.Wait()
	_ = n.alive.Close()
}

// writeBehind is how late a server writes acks: those before a full disk are lost with those that it answers meanwhile.
const writeBehind = time.Second

// TestAFullDiskOfTheBusHoldsTheBridgeBack fills the disk of the server under load, makes room again and restarts the server:
// its stream answers no publisher from the first failed write on, until then.
func TestAFullDiskOfTheBusHoldsTheBridgeBack(t *testing.T) {
	onlyLong(t)
	scenario(t)
	disk := smallDisk(t)
	node := natsOn(t, disk)
	f := newFleet(t, 1, []*natsNode{node})
	w := f.worlds[0]
	bridge, worker := f.bridge(t, 0, "bridge"), f.worker(t, "one")
	bridge.leads(t)
	f.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")

	for range pick(1, 5) {
		full := time.Now()
		ballast := fill(t, disk)
		state := bridge.becomes(t, 503)
		require.Equal(t, "bridge", state.Reasons[0].Check)
		require.NotEmpty(t, state.Reasons[0].Error)
		require.Contains(t, state.Reasons[0].Fix, "disk")
		frozen := w.published(t)
		w.writers.grows(t, pick(50, 1000))
		require.Equal(t, frozen, w.published(t), "what the stream did not take is not settled")

		require.NoError(t, os.Remove(ballast))
		node.shutDown()
		node.start(t)
		ready(t, f.nodes, 1)
		back := time.Now()
		f.outages = append(f.outages, [2]time.Time{full.Add(-writeBehind), back})
		bridge.becomes(t, 200)
		w.delivers(t, back, "")
	}
	f.finish(t, "full disk under JetStream; room is made", bridge, worker)
}

// published is what the bridge has settled: its place in the log, and what it has read and not settled behind it.
func (w *world) published(t *testing.T) string {
	t.Helper()
	return query[string](t, w, `select to_jsonb(c)::text from public.tb_observer_checkpoint c where transport_name = 'bridge_0'`)
}
