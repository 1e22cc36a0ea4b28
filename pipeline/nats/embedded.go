package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fraiseql/observer/internal/natsconn"
)

// readyTimeout is how long the embedded server may take to read its data.
const readyTimeout = 2 * time.Minute

// EmbeddedConfig describes an [Embedded] server.
type EmbeddedConfig struct {
	// StoreDir is where the server keeps its data; it is created. Required.
	StoreDir string
	// NoSync lets an ack mean that a write outlives the process, but not the machine. Otherwise it is on the disk.
	NoSync bool
	Log    *slog.Logger
}

// Embedded is a JetStream server inside this process. It listens on no port.
type Embedded struct {
	server *server.Server
	lock   *dirLock
}

// StartEmbedded starts a server. One that another process runs on the same directory is an error.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.StoreDir == "" {
		return nil, errors.New("embedded NATS server: StoreDir is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded NATS server: create transport.nats.store_dir: %w", err)
	}
	lock, err := lockDir(filepath.Join(cfg.StoreDir, "observer.lock"))
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: transport.nats.store_dir %s: %w", cfg.StoreDir, err)
	}
	e := &Embedded{lock: lock}
	if err := e.start(cfg); err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", errors.Join(err, lock.release()))
	}
	return e, nil
}

func (e *Embedded) start(cfg EmbeddedConfig) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "observer", DontListen: true, JetStream: true, StoreDir: cfg.StoreDir,
		SyncAlways: !cfg.NoSync, NoSigs: true, // signals are the program's
	})
	if err != nil {
		return err
	}
	s.SetLogger(serverLog{cfg.Log}, false, false)
	s.Start()
	if !s.ReadyForConnections(readyTimeout) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("it was not ready within %s", readyTimeout)
	}
	e.server = s
	return nil
}

// Connect opens a connection to the server; close it before the server.
func (e *Embedded) Connect(ctx context.Context) (*natsconn.Conn, error) {
	return natsconn.OpenInProcess(ctx, e.server)
}

// Close stops the server once its data is written, then lets other processes have the directory.
func (e *Embedded) Close() error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return e.lock.release()
}

// serverLog passes on what a person should know.
type serverLog struct{ log *slog.Logger }

var _ server.Logger = serverLog{}

func (l serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l serverLog) Debugf(string, ...any)           {}
func (l serverLog) Tracef(string, ...any)           {}

func (l serverLog) say(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "embedded NATS server", "detail", fmt.Sprintf(format, v...))
}
