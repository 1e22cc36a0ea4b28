package faults

import (
	"net"
	"net/http"
	"time"
)

// misbehaviour is what an endpoint does instead of answering as it should.
type misbehaviour struct {
	name   string
	status int // what it amounts to; nothing for an answer that never came, which is no success
	act    http.HandlerFunc
}

const (
	hangs   = 15 * time.Second // how long
	nothing = 599
	refused = "http_302" // the class of the one failure among misbehaviours that is for good
)

var (
	hanging     = misbehaviour{"hangs before it answers", nothing, hang}
	unavailable = answers(http.StatusServiceUnavailable, "X", "x")
)

// misbehaviours are ten ways to fail. A status line that says 200 is a success, whatever becomes of the body.
var misbehaviours = []misbehaviour{
	hanging,
	{"hangs in the body", http.StatusOK, hangInBody},
	{"sends a body without end", http.StatusOK, flood200},
	{"hangs up", nothing, reset},
	{"sends its headers slowly", nothing, trickle},
	{"speaks another protocol", nothing, greet},
	answers(http.StatusInternalServerError, "X", "x"),
	answers(http.StatusTooManyRequests, "Retry-After", "1"),
	answers(http.StatusFound, "Location", "/elsewhere"),
	answers(http.StatusNotFound, "X", "x"),
}

func answers(status int, header, value string) misbehaviour {
	return misbehaviour{http.StatusText(status), status, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(header, value)
		w.WriteHeader(status)
	}}
}

func hang(_ http.ResponseWriter, r *http.Request) { wait(r.Context(), hangs) }

func hangInBody(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte("{")) // the client may have gone
	_ = http.NewResponseController(w).Flush()
	hang(w, r)
}

func flood200(w http.ResponseWriter, _ *http.Request) {
	for block := make([]byte, 1<<20); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// hijacked gives a connection to act and closes it.
func hijacked(w http.ResponseWriter, act func(net.Conn)) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		act(conn)
		_ = conn.Close() // the client may have gone
	}
}

func reset(w http.ResponseWriter, _ *http.Request) {
	hijacked(w, func(conn net.Conn) {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // else it is a close
		}
	})
}

func greet(w http.ResponseWriter, _ *http.Request) {
	hijacked(w, func(conn net.Conn) { _, _ = conn.Write([]byte("220 mail.example.com ESMTP\r\n")) })
}

func trickle(w http.ResponseWriter, r *http.Request) {
	hijacked(w, func(conn net.Conn) {
		_, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nX-Slow: "))
		for end := time.Now().Add(hangs); err == nil && time.Now().Before(end); wait(r.Context(), 20*time.Millisecond) {
			_, err = conn.Write([]byte("x"))
		}
	})
}
