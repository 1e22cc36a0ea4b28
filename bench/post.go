package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// post is the raw form of the webhooks: Go's own client with as many connections as workers, and the bodies in memory.
func post(s spec) error {
	text, err := os.ReadFile(s.Bodies)
	if err != nil {
		return fmt.Errorf("read bodies: %w", err)
	}
	bodies := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.Workers, DisableCompression: true}}
	begun := time.Now()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(context.Background())
	for range s.Workers {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(len(bodies)); i = next.Add(1) - 1 {
				if err := postOne(ctx, client, s.URL, bodies[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	n := int64(len(bodies))
	report{Events: n, Distinct: n, Seconds: time.Since(begun).Seconds()}.print()
	return nil
}

func postOne(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("post: %s", resp.Status)
	}
	return err
}
