package procgroup

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attributes returns the attributes of a program that has a group of its own and dies with its parent.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// watch has ended closed when the program ends.
func (p *Process) watch() { p.ended = Ended(p.Pid()) }

// wait reaps the program.
func (p *Process) wait() {
	p.err = p.cmd.Wait()
	ReapRest(p.Pid())
}

// Ended returns a channel that is closed when a program has ended. It does not reap the program: the id of the program
// and of its group cannot be used again until it is reaped.
func Ended(pid int) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var info unix.Siginfo
		_ = Again(func() error { return unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) })
	}()
	return ended
}

// ReapRest reaps processes of a killed group that became children of this process because their parents have died.
// This happens if this process is the first one of a container, or a subreaper. The id of a group is not used again
// before all its processes are reaped.
func ReapRest(group int) {
	if _, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); errors.Is(err, syscall.ECHILD) {
		return // otherwise there are none
	}
	go func() {
		for Again(func() error { _, err := syscall.Wait4(-group, nil, 0, nil); return err }) == nil {
		}
	}()
}

// Again repeats a system call until no signal interrupts it.
func Again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
