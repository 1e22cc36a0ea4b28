package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // crash recovery on a busy machine
	stopTimeout  = 30 * time.Second
	tailBytes    = 2000 // of the log, shown when a server does not start
)

// process is one running server.
type process struct {
	cmd  *exec.Cmd
	quit syscall.Signal // ends it at once
	log  string
	done chan struct{} // closed when it has ended
}

// processes is what runs, for [stopAll].
var processes struct {
	sync.Mutex
	spawner *spawner
	running map[*process]struct{}
}

// startProcess starts a server that writes its output to server.log in dir; env is added to our environment.
func startProcess(dir string, quit syscall.Signal, env []string, program string, args ...string) (*process, error) {
	owner, err := serverUser()
	if err != nil {
		return nil, err
	}
	p := &process{quit: quit, log: filepath.Join(dir, "server.log"), done: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	defer func() { _ = output.Close() }() // the server has its own descriptor
	p.cmd = exec.CommandContext(context.Background(), program, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, output, output
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = processAttributes(owner, quit)
	if err = p.spawn(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go p.wait()
	return p, nil
}

func (p *process) spawn() error {
	processes.Lock()
	defer processes.Unlock()
	if processes.spawner == nil {
		processes.spawner = newSpawner()
		processes.running = map[*process]struct{}{}
	}
	if err := processes.spawner.start(p.cmd); err != nil {
		return err
	}
	processes.running[p] = struct{}{}
	return nil
}

func (p *process) wait() {
	_ = p.cmd.Wait() // servers end by signals: their status says nothing
	processes.Lock()
	delete(processes.running, p)
	processes.Unlock()
	close(p.done)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ready polls until check returns nil, and gives up when the server has ended or the time is up.
func (p *process) ready(check func() error) error {
	gone := errors.New("it ended")
	err := poll(startTimeout, func() error {
		if p.ended() {
			return nil
		}
		return check()
	})
	if p.ended() {
		err = gone
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("start %s: %w; the end of its log:\n%s", filepath.Base(p.cmd.Path), errors.Join(err, p.stop(syscall.SIGKILL)), tail(p.log))
}

// stop sends the signal and waits for the end; what does not end is killed, which is an error.
func (p *process) stop(signal syscall.Signal) error { return p.stopWithin(signal, stopTimeout) }

func (p *process) stopWithin(signal syscall.Signal, within time.Duration) error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	select {
	case <-p.done:
		return nil
	case <-deadline.C:
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return errors.Join(fmt.Errorf("stop %s: still running %s after the signal %s; killed", p.cmd.Path, within, signal), err)
}

// stopAll stops what still runs and removes its data.
func stopAll() error {
	processes.Lock()
	var left []*process
	for p := range processes.running {
		left = append(left, p)
	}
	starter := processes.spawner
	processes.spawner = nil
	processes.Unlock()

	var failures []error
	for _, p := range left {
		failures = append(failures, p.stop(p.quit))
	}
	if starter != nil {
		starter.close()
	}
	if space := opened.Load(); space != nil {
		failures = append(failures, space.remove())
	}
	return errors.Join(failures...)
}

// run runs a program to its end in a directory of the user that servers run as, and as that user.
func run(dir, program string, args ...string) error {
	owner, err := serverUser()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w:\n%s", filepath.Base(program), err, output)
	}
	return nil
}

func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-tailBytes):]))
}
