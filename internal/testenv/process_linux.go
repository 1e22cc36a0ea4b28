package testenv

import "syscall"

// processAttributes lets the kernel end the server when the thread that started it ends: see [spawner].
func processAttributes(owner *syscall.Credential, quit syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true, Pdeathsig: quit}
}
