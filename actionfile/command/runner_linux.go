package command

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/procgroup"
)

// Supported reports whether this system can run commands.
const Supported = true

// Runner runs programs. It is safe for concurrent use.
type Runner struct {
	starter *procgroup.Starter
	closing chan struct{} // closed when all programs must end at once
	delay   time.Duration // waitDelay; a test on a busy machine waits longer

	mu      sync.Mutex // guards closed and the calls of running.Add
	closed  bool
	running sync.WaitGroup // attempts
}

// NewRunner returns a Runner. The caller must call Close.
func NewRunner() *Runner {
	return &Runner{starter: procgroup.NewStarter(), closing: make(chan struct{}), delay: waitDelay}
}

// Close kills the programs that still run, with their process groups, and waits for their end.
func (r *Runner) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	close(r.closing)
	r.mu.Unlock()
	r.running.Wait()
	r.starter.Close()
}

// enter counts an attempt, unless the Runner is closed.
func (r *Runner) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.running.Add(1)
	}
	return !r.closed
}

// Action returns the action that runs a command.
func (r *Runner) Action(c Command) actions.AppendFunc {
	return func(ctx context.Context, call *actions.Call, dst []byte) ([]byte, error) {
		return r.run(ctx, &c, call, dst)
	}
}

// run runs one attempt.
func (r *Runner) run(ctx context.Context, c *Command, call *actions.Call, dst []byte) ([]byte, error) {
	if !r.enter() {
		return dst, errClosed
	}
	defer r.running.Done()
	home, err := os.MkdirTemp("", "posta-action-")
	if err != nil {
		return dst, fmt.Errorf("no home directory can be made: %w", err)
	}
	defer func() { _ = os.RemoveAll(home) }()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	payload, err := call.Open(reading)
	if err != nil {
		return dst, err
	}
	defer func() { _ = payload.Close() }()
	in, out, stderr := &input{Reader: payload}, newOutput(call), &tail{}
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Dir: c.Dir, Env: c.environment(ctx, call, home),
		Stdin: in, Stdout: out, Stderr: stderr, WaitDelay: r.delay,
		SysProcAttr: procgroup.Attributes(),
	}
	cmd.SysProcAttr.Ptrace = !c.Limits.none()
	if err := r.starter.Do(ctx, func() error { return start(cmd, c.Limits) }); err != nil {
		if ctx.Err() != nil && cmd.Process == nil {
			return dst, ctx.Err()
		}
		if cmd.Process != nil { // it was started, and was killed
			in.over.Store(true)
			stopReading()
			_ = cmd.Wait()
		}
		return dst, fmt.Errorf("the program cannot be started: %w", err)
	}
	r.await(ctx, cmd.Process.Pid, out)
	in.over.Store(true)
	stopReading()
	return c.ended(ctx, cmd, outcome{wait: cmd.Wait(), in: in, out: out, stderr: stderr}, dst)
}

// outcome is how a program has ended.
type outcome struct {
	wait   error // the error of exec.Cmd.Wait
	in     *input
	out    *output
	stderr *tail
}

// ended returns the result of an attempt whose program was reaped.
func (c *Command) ended(ctx context.Context, cmd *exec.Cmd, o outcome, dst []byte) ([]byte, error) {
	procgroup.ReapRest(cmd.Process.Pid)
	state := cmd.ProcessState
	select {
	case <-o.out.full:
		return dst, &actions.TooLargeError{Most: o.out.most}
	default:
	}
	failed := o.in.failed.Load()
	switch {
	case state == nil:
		return dst, fmt.Errorf("nobody knows how the program ended: %w", o.wait)
	case state.Success() && failed == nil: // a success counts even if the context has ended
		return data(dst, o.out.text), nil
	case ctx.Err() != nil:
		return dst, ctx.Err()
	case failed != nil:
		return dst, *failed
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return dst, c.failure(fmt.Sprintf("killed by %s (%s)", unix.SignalName(status.Signal()), status.Signal()), 0, string(o.stderr.text))
	}
	return dst, c.failure(fmt.Sprintf("exit status %d", state.ExitCode()), state.ExitCode(), string(o.stderr.text))
}

// start starts a program on the thread of the Runner. A program with limits stops before its first instruction
// (ptrace), gets its limits, and continues, so neither it nor a child ever runs without them. If it cannot be
// limited, it is killed. The caller waits for it, which may take as long as a read of the payload.
func start(cmd *exec.Cmd, limits Limits) error {
	if err := cmd.Start(); err != nil || limits.none() {
		return err
	}
	err := limit(cmd.Process.Pid, limits)
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return err
}

// Check returns the name of a limit that this process cannot set, and the reason: its own hard limit is lower, and
// it is not privileged.
func (l Limits) Check() (name string, err error) {
	for _, one := range l.set() {
		var own unix.Rlimit
		if unix.Getrlimit(one.resource, &own) != nil {
			continue
		}
		if one.to.Max > own.Max && !mayRaise() {
			return one.name, fmt.Errorf("%s: the node's own hard limit is %d, and only a privileged node may set a higher one than that: lower it, or raise the node's (ulimit -H)", one.name, own.Max)
		}
	}
	return "", nil
}

// resourceLimit is a limit in the terms of the system.
type resourceLimit struct {
	name     string // the key in the file
	resource int
	to       unix.Rlimit
}

// set returns the limits that are not 0.
func (l Limits) set() (list []resourceLimit) {
	for _, one := range []resourceLimit{
		{"memory", unix.RLIMIT_AS, unix.Rlimit{Cur: l.Memory, Max: l.Memory}},
		{"cpu", unix.RLIMIT_CPU, unix.Rlimit{Cur: l.CPU, Max: l.CPU + 1}}, // SIGXCPU, which names the reason, comes before SIGKILL
		{"files", unix.RLIMIT_NOFILE, unix.Rlimit{Cur: l.Files, Max: l.Files}},
	} {
		if one.to.Cur > 0 {
			list = append(list, one)
		}
	}
	return list
}

// mayRaise reports whether this process may raise hard limits (CAP_SYS_RESOURCE).
func mayRaise() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// limit sets the limits of a program that has stopped at its start, and lets it continue.
func limit(pid int, limits Limits) error {
	var info unix.Siginfo
	if err := procgroup.Again(func() error {
		return unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
	}); err != nil {
		return fmt.Errorf("it did not stop to be limited: %w", err)
	}
	for _, one := range limits.set() {
		if err := unix.Prlimit(pid, one.resource, &one.to, nil); err != nil {
			return fmt.Errorf("it cannot be limited: %w", err)
		}
	}
	if err := syscall.PtraceDetach(pid); err != nil {
		return fmt.Errorf("it cannot be let go: %w", err)
	}
	return nil
}

// await waits for the end of the program without reaping it, and kills the rest of its group. The id of the program
// and of its group cannot be used again until it is reaped.
func (r *Runner) await(ctx context.Context, pid int, out *output) {
	ended := procgroup.Ended(pid)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	cancelled, full, closing := ctx.Done(), out.full, r.closing
	for {
		select {
		case <-ended:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			return
		case <-cancelled:
			_ = syscall.Kill(-pid, syscall.SIGTERM)
			timer.Reset(KillAfter)
			cancelled = nil
		case <-timer.C:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		case <-full:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			full = nil
		case <-closing:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			closing = nil
		}
	}
}
