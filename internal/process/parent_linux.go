package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel send a signal to the program when this process dies.
func dieWithParent(command *exec.Cmd, signal syscall.Signal) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = signal
}
