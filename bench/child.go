package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runTimeout bounds one run of anything.
const runTimeout = 5 * time.Minute

// child is a running copy of this program.
type child struct {
	spec    spec
	cmd     *exec.Cmd
	stdin   io.Closer
	stderr  bytes.Buffer
	begun   time.Time
	reports chan report // closed when it has ended its output
	late    report      // the last that came after the one that was waited for
}

// start starts a child; args are the observer's command line.
func (b *bench) start(ctx context.Context, s spec, args ...string) (*child, error) {
	if b.profile != "" && s.Role == "observer" {
		s.Profile = filepath.Join(b.profile, b.name("observer"))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{spec: s, cmd: exec.CommandContext(ctx, self, args...), reports: make(chan report, 16)} // 16: more than any run has
	c.cmd.Env = append(environment(), specVariable+"="+string(text))
	c.cmd.Dir, c.cmd.Stderr = b.dir, &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.begun = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Role, err)
	}
	go c.listen(out)
	return c, nil
}

// environment is ours without what would configure the observer.
func environment() []string {
	var list []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FRAISEQL_") && !strings.HasPrefix(v, "DATABASE_URL=") {
			list = append(list, v)
		}
	}
	return list
}

func (c *child) listen(out io.Reader) {
	defer close(c.reports)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			c.reports <- r
		}
	}
}

// report waits for the next report.
func (c *child) report(ctx context.Context) (report, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	select {
	case r, ok := <-c.reports:
		if !ok {
			return r, errors.Join(fmt.Errorf("%s ended without a report", c.spec.Role), c.end())
		}
		return r, nil
	case <-ctx.Done():
		return report{}, errors.Join(fmt.Errorf("wait for %s: %w", c.spec.Role, ctx.Err()), c.kill())
	}
}

// whole waits for the report, calls each of look while the child still runs, and stops it.
func (c *child) whole(ctx context.Context, look ...func(c *child) error) (report, error) {
	r, err := c.report(ctx)
	if err != nil {
		return r, err
	}
	for _, f := range look {
		if err := f(c); err != nil {
			return r, err
		}
	}
	r.processor, err = c.stop()
	r.Events = max(r.Events, c.late.Events) // what came after the end came twice
	return r, err
}

// stop asks the child to end, and returns the processor time that it used.
func (c *child) stop() (time.Duration, error) {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	err := c.end()
	return c.processor(), err
}

// processor is the time that a child which has ended used in all.
func (c *child) processor() time.Duration {
	return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// end waits for the child, which is on its way out.
func (c *child) end() error {
	for c.late = range c.reports { // Wait must not be called before the output was read
	}
	err := c.cmd.Wait()
	_ = c.stdin.Close()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", c.spec.Role, err, c.stderr.String())
	}
	return nil
}

func (c *child) kill() error {
	return errors.Join(c.cmd.Process.Kill(), c.end())
}

// memory returns what the child occupies now and occupied at most, in MiB.
func (c *child) memory() (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory of %s: %w", c.spec.Role, err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64) // the two lines below are numbers
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak, nil
}
