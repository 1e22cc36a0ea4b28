package testenv

import (
	"os/exec"
	"runtime"
)

// spawner starts every server from one operating system thread that lives as long as the test process: Linux ends a
// child that asked for it (Pdeathsig) when the starting thread ends, and Go ends threads when it likes.
type spawner struct {
	requests chan spawnRequest
	ended    chan struct{}
}

type spawnRequest struct {
	cmd   *exec.Cmd
	reply chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), ended: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	defer close(s.ended)
	for request := range s.requests {
		request.reply <- request.cmd.Start()
	}
}

func (s *spawner) start(cmd *exec.Cmd) error {
	request := spawnRequest{cmd: cmd, reply: make(chan error, 1)} // 1: the thread never waits for the caller
	s.requests <- request
	return <-request.reply
}

func (s *spawner) close() {
	close(s.requests)
	<-s.ended
}
