// Package procgroup runs programs in process groups of their own, and ends whole groups.
//
// On Linux a program is not reaped before its group was killed, so that the id of the group cannot belong to others by
// then, and the kernel kills a program whose parent has died.
package procgroup

import (
	"context"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Starter starts programs, all on one thread that lives as long as the Starter: the kernel kills a program when the
// thread that started it ends (Pdeathsig), and only that thread may set its limits (ptrace). It is safe for concurrent
// use.
type Starter struct {
	starts chan func()
	close  sync.Once
}

// NewStarter returns a Starter. The caller calls Close after the end of all programs.
func NewStarter() *Starter {
	s := &Starter{starts: make(chan func())}
	go func() {
		runtime.LockOSThread() // until the goroutine ends, which ends the thread
		for start := range s.starts {
			start()
		}
	}()
	return s
}

// Close ends the thread. On Linux the kernel then kills the programs that still run.
func (s *Starter) Close() { s.close.Do(func() { close(s.starts) }) }

// Do calls start on the thread, unless ctx ends before.
func (s *Starter) Do(ctx context.Context, start func() error) error {
	started := make(chan error, 1)
	select {
	case s.starts <- func() { started <- start() }:
		return <-started
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Process is a program that runs in a process group of its own. Its methods are safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	ended <-chan struct{}
	reap  sync.Once
	err   error // of the Wait
}

// Start starts a program in a group of its own.
func (s *Starter) Start(ctx context.Context, cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = Attributes()
	}
	if err := s.Do(ctx, cmd.Start); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd}
	p.watch()
	return p, nil
}

// Pid returns the id of the program and of its group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Signal sends a signal to the group. It must not be called after Reap.
func (p *Process) Signal(signal syscall.Signal) { _ = syscall.Kill(-p.Pid(), signal) }

// Reap waits for the end of the program, kills what is left of its group, and returns how the program ended: nil, or
// an error of exec.Cmd.Wait.
func (p *Process) Reap() error {
	p.reap.Do(func() {
		<-p.ended
		p.Signal(syscall.SIGKILL)
		p.wait()
	})
	return p.err
}
