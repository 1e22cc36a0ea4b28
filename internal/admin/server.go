// Package admin serves the admin address: /healthz, /readyz, /metrics and /status.
package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config describes a [Server].
type Config struct {
	Address  string
	TokenEnv string // environment variable with the token that /metrics and /status ask for; "" asks for none
	Gatherer prometheus.Gatherer
	Health   *Health
	Status   func() any // what /status answers, as JSON
	Log      *slog.Logger
}

// Server is the running admin address.
type Server struct {
	http  *http.Server
	addr  string
	ended chan error
}

// Listen starts the server.
func Listen(cfg Config) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on the admin address: %w (choose another in [admin] listen, or \"\" for none)", err)
	}
	s := &Server{
		http: &http.Server{
			Handler: routes(cfg), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
			ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		},
		addr: listener.Addr().String(), ended: make(chan error, 1),
	}
	go func() { s.ended <- s.http.Serve(listener) }()
	cfg.Log.Info("admin address is open", slog.String("address", s.addr))
	return s, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.addr }

// Close ends the server.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func routes(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, cfg.Health) })
	token := ""
	if cfg.TokenEnv != "" {
		token = os.Getenv(cfg.TokenEnv)
	}
	mux.Handle("GET /metrics", guarded(token, promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{})))
	mux.Handle("GET /status", guarded(token, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, cfg.Status())
	})))
	return mux
}

func ready(w http.ResponseWriter, health *Health) {
	ok, status, reasons := health.State()
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, struct {
		Status  string   `json:"status"`
		Reasons []Reason `json:"reasons,omitempty"`
	}{status, reasons})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is none of our business
}

func guarded(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send the token as Authorization: Bearer …", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
