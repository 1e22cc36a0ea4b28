package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// scrape is what an observer says of its webhooks in all.
type scrape struct{ actions, seconds, hits float64 }

// settled polls until the observer has counted that many actions. The first look comes late, so that it disturbs none.
func (m meter) settled(ctx context.Context, actions float64) (s scrape, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err == nil && s.actions < actions {
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
		}
		s, err = readMetrics(ctx, m.url)
	}
	return s, err
}

func readMetrics(ctx context.Context, url string) (s scrape, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return s, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseFloat(value, 64) // the lines below are numbers
		switch name {
		case `fraiseql_observer_action_duration_seconds_count{type="webhook"}`:
			s.actions = n
		case `fraiseql_observer_action_duration_seconds_sum{type="webhook"}`:
			s.seconds = n
		case "fraiseql_observer_cache_hits_total":
			s.hits = n
		}
	}
	return s, lines.Err()
}

// freeAddress returns an address on which nothing listens now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
