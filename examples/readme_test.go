package examples

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// aroundTheBlock is what the README's program leaves out: where its names come from, and what its action does.
const aroundTheBlock = `package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/cmd"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

type creditCheck struct {
	limit float64
	log   *slog.Logger
}

func (c *creditCheck) Run(ctx context.Context, d *event.Delivery) error {
	c.log.InfoContext(ctx, "checked", "limit", c.limit)
	return nil
}

`

const ownConfig = `
[transport]
transport = "in_memory"
[pipeline]
middleware = ["audit"]
[[observers]]
name = "new-order"
entity = "Order"
event_type = "INSERT"
[[observers.actions]]
type = "credit_check"
limit = 1000
`

// TestTheProgramInTheREADMERuns builds the Go block as it stands there, as a command of this module, and runs it.
func TestTheProgramInTheREADMERuns(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, 1)
	dir := t.TempDir()
	source, overlay, config, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "observer.toml"), filepath.Join(dir, "own")
	place, err := filepath.Abs("readme/main.go")
	require.NoError(t, err)
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {place: source}})
	require.NoError(t, err)
	for name, content := range map[string]string{source: aroundTheBlock + blocks[0][1], overlay: string(replace), config: ownConfig} {
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	}
	out, err := shell(t.Context(), ".", "go build -overlay "+overlay+" -o "+binary+" ./readme").CombinedOutput()
	require.NoError(t, err, string(out))

	run := shell(t.Context(), ".", binary+" run --config "+config+" --input orders.ndjson")
	var log strings.Builder
	run.Stderr = &log
	summary, err := run.Output()
	require.NoError(t, err, log.String())
	require.Contains(t, string(summary), "5 events, 2 matched, 2 delivered, 0 dead letters")
	require.Contains(t, log.String(), "checked limit=1000")
	require.Contains(t, log.String(), "told action=credit_check-1")
}
