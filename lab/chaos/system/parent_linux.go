package system

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the process when the chaos program is gone.
func dieWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
