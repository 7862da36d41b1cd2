package testenv

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel send SIGTERM to the program when the test process
// is gone, and with it the cleanups.
func dieWithParent(command *exec.Cmd) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGTERM
}
