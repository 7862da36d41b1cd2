// Package process runs programs for tests and benchmarks: it starts a program, records its output, sends it
// signals, and waits for its end.
package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a program that was started. Its methods are safe for concurrent use.
type Process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when the program has ended
	output  *output
}

// Start starts a command. It records the output, unless the command already has a Stdout or Stderr. If this process
// dies first, the kernel sends the signal orphaned to the program, on systems that can do that.
func Start(command *exec.Cmd, orphaned syscall.Signal) (*Process, error) {
	p := &Process{command: command, ended: make(chan struct{}), output: new(output)}
	if command.Stdout == nil {
		command.Stdout = p.output
	}
	if command.Stderr == nil {
		command.Stderr = p.output
	}
	dieWithParent(command, orphaned)
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	go func() {
		_ = command.Wait() // State returns the outcome
		close(p.ended)
	}()
	return p, nil
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.command.Process.Pid }

// Command returns the program and its arguments.
func (p *Process) Command() []string { return p.command.Args }

// Signal sends a signal. It is an error if the program has ended.
func (p *Process) Signal(signal os.Signal) error { return p.command.Process.Signal(signal) }

// Stop ends the program with SIGTERM, and with SIGKILL if it does not end within grace. It waits for the end, and
// reports whether SIGTERM was enough.
func (p *Process) Stop(grace time.Duration) bool {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return true
	case <-time.After(grace):
		p.Kill()
		return false
	}
}

// Kill ends the program with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// Ended returns a channel that is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// HasEnded reports whether the program has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// State returns how the program ended. It waits for the end.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.command.ProcessState
}

// Output returns the last 64 KiB that the program has printed so far.
func (p *Process) Output() string { return p.output.String() }

// output stores the last bytes that are written to it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// keptOutput is how many bytes of the output are stored.
const keptOutput = 64 << 10

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(text)
	if over := o.text.Len() - keptOutput; over > 0 {
		o.text.Next(over)
	}
	return len(text), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
