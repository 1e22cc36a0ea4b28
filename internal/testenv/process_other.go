//go:build unix && !linux

package testenv

import "syscall"

// processAttributes has no means here to end the server with the test process: one that is killed leaves it running.
func processAttributes(owner *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true}
}
