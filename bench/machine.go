package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fraiseql/observer/internal/testenv"
)

// describe says what the figures were measured on.
func describe() string {
	return fmt.Sprintf("%d cores (%s), %s, %s, nats-server %s; fsync, full_page_writes and synchronous_commit on; every server on this machine",
		runtime.NumCPU(), processor(), runtime.Version(), postgresVersion(), server.VERSION)
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func postgresVersion() string {
	program, err := testenv.FindTool("postgres")
	if err != nil {
		return err.Error()
	}
	out, err := exec.Command(program, "--version").Output() //nolint:noctx // it ends by itself
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}
