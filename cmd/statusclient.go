package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline"
)

const (
	statusPatience = 5 * time.Second
	statusLimit    = 16 << 20 // bytes of an answer
)

// statusClient asks a running process for its status.
type statusClient struct {
	address         string // as it was asked for
	token, variable string // and the name that the token has in the environment
	client          *http.Client
}

func newStatusClient(cfg *config.Config) (*statusClient, error) {
	if cfg.Transport.Transport == "in_memory" {
		return nil, usagef(`transport "in_memory" has no process to ask: run --input prints its summary at the end`)
	}
	if cfg.Admin.Listen == "" {
		return nil, usagef(`the admin address is turned off: set [admin] listen, such as "127.0.0.1:7077", and restart the process`)
	}
	c := &statusClient{address: reachable(cfg.Admin.Listen), variable: cfg.Admin.TokenEnv}
	if c.variable != "" {
		c.token = os.Getenv(c.variable)
	}
	c.client = &http.Client{
		Timeout:       statusPatience,
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy: it is asked on this machine, with a token
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// reachable is where to ask what listens on an address: one that stands for all is none to ask.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return listen
	}
	return net.JoinHostPort("127.0.0.1", port)
}

func (c *statusClient) status(ctx context.Context) (*pipeline.Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.address, err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, c.unanswered(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return nil, c.unauthorized()
	default:
		return nil, c.foreign(errors.New(resp.Status))
	}
	var s pipeline.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, statusLimit)).Decode(&s); err != nil {
		return nil, c.foreign(err)
	}
	if s.Transport == "" || len(s.Roles) == 0 {
		return nil, c.foreign(errors.New("its JSON is another"))
	}
	return &s, nil
}

func (c *statusClient) unanswered(err error) error {
	advice := fmt.Sprintf("no process answers at %s: start observer run, or set [admin] listen", c.address)
	opening, ok := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New(advice)
	case ok && opening.Op == "dial":
		return fmt.Errorf("%s (%w)", advice, opening)
	}
	return c.foreign(err)
}

func (c *statusClient) unauthorized() error {
	switch {
	case c.variable == "":
		return fmt.Errorf("the process at %s asks for a token: name the variable that holds it in [admin] token_env", c.address)
	case c.token == "":
		return fmt.Errorf("the process at %s asks for a token: set %s, as [admin] token_env says", c.address, c.variable)
	}
	return fmt.Errorf("the process at %s refuses the token: set %s to the one that it was started with", c.address, c.variable)
}

func (c *statusClient) foreign(err error) error {
	return fmt.Errorf("what listens at %s does not answer as an observer of this version does: %w: set [admin] listen to where yours listens", c.address, err)
}
