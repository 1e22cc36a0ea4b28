package natsconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/nats-io/nats.go"
)

// link follows a connection from outside. nats.go holds its lock while it looks for a server, up to the end of the
// timeout, so that whatever asks it then, or closes it, waits as long.
type link struct {
	tried chan struct{} // closed when the first look for a server is over

	mu      sync.Mutex // guards what follows
	down    error      // why there is no connection, nil while there is one
	denied  string     // what the server said last about a missing right
	cancel  func()     // ends the dial or handshake under way
	opening bool       // until Open returns
	refuse  bool       // dial no more
	over    bool       // closed for good
	once    sync.Once  // closes tried
}

var (
	errConnecting = errors.New("not connected yet")
	errLost       = errors.New("the connection was lost")
	errClosed     = errors.New("the connection is closed")
)

func newLink() *link {
	return &link{tried: make(chan struct{}), down: errConnecting, opening: true}
}

func (l *link) options() []nats.Option {
	return []nats.Option{
		nats.Name("observer"), nats.Timeout(connectTimeout), nats.FlusherTimeout(connectTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPings),
		nats.ReconnectWait(reconnectWait), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),   // what cannot be sent now fails now
		nats.IgnoreAuthErrorAbort(), // rights are granted later
		nats.SkipHostLookup(),       // the dialer does it, and can be interrupted
		nats.SetCustomDialer(l),     //
		nats.ConnectHandler(l.up),   //
		nats.ReconnectHandler(l.up), //
		nats.ReconnectErrHandler(l.failed),
		nats.DisconnectErrHandler(l.lost),
		nats.ClosedHandler(l.closed),
		nats.ErrorHandler(l.said), // without one nats.go prints to stderr
	}
}

// Dial implements nats.CustomDialer.
func (l *link) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if !l.dialing(cancel) {
		return nil, errClosed
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	l.dialed(conn, err)
	return conn, err
}

func (l *link) dialing(cancel func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	if l.down == nil {
		l.down = errLost // nats.go says so a moment later
	}
	return !l.refuse
}

// dialed notes the result. The handshake, which nats.go makes under its lock as well, ends when its connection is closed.
func (l *link) dialed(conn net.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = nil
	if err != nil {
		l.down = err
		return
	}
	l.cancel = func() { _ = conn.Close() }
	if l.refuse {
		l.cancel()
	}
}

// hurry ends the opening, since whom it is for waits no longer.
func (l *link) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opening {
		l.refuse = true
		l.stop()
	}
}

func (l *link) opened() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening, l.refuse = false, l.over
}

func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = true
	l.stop()
}

// stop ends the look for a server, if there is one. A connection that stands is left alone: closing it sends the rest.
func (l *link) stop() {
	if l.down != nil && l.cancel != nil {
		l.cancel()
	}
}

func (l *link) up(*nats.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.cancel, l.denied = nil, nil, ""
	l.once.Do(func() { close(l.tried) })
}

// failed is told why a look for a server failed. ErrNoServers says less than what was said of each of them.
func (l *link) failed(_ *nats.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.Is(err, nats.ErrNoServers) {
		l.down = err
	}
	l.once.Do(func() { close(l.tried) })
}

func (l *link) lost(_ *nats.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = errLost
	if err != nil {
		l.down = fmt.Errorf("%w: %s", errLost, err.Error()) // how it was lost is no kind of its own
	}
}

func (l *link) closed(*nats.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.over = errClosed, true
}

func (l *link) said(_ *nats.Conn, _ *nats.Subscription, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		l.denied = err.Error()
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		l.down = err
	}
}

func (l *link) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

func (l *link) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *link) lastDenied() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.denied
}
