package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a program may take to end after it was told to.
const patience = 10 * time.Second

// Process is a program that a test has started. It is stopped at the end of the
// test at the latest, and its output is shown when the test fails. Its methods
// are safe for concurrent use.
type Process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when the program has ended
	output  *output
}

// Start starts a program with its arguments.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	path, err := locate(program)
	if err != nil {
		t.Fatal(err)
	}
	return StartCommand(t, exec.Command(path, args...))
}

// StartCommand starts a command, whose output it takes unless the command says
// otherwise. The program gets SIGTERM should the test process die.
func StartCommand(t testing.TB, command *exec.Cmd) *Process {
	t.Helper()
	p := &Process{command: command, ended: make(chan struct{}), output: new(output)}
	if command.Stdout == nil {
		command.Stdout = p.output
	}
	if command.Stderr == nil {
		command.Stderr = p.output
	}
	dieWithParent(command)
	if err := command.Start(); err != nil {
		t.Fatalf("start %s: %v", command.Path, err)
	}
	go func() {
		_ = command.Wait() // the state is asked for by State
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("output of %v:\n%s", command.Args, p.Output())
		}
	})
	return p
}

// stop ends the program the kind way, then the other.
func (p *Process) stop(t testing.TB) {
	t.Helper()
	if !p.running() {
		return
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Errorf("%v did not end within %v of SIGTERM", p.command.Args, patience)
		p.Kill(t)
	}
}

func (p *Process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Pid is the program's process id.
func (p *Process) Pid() int { return p.command.Process.Pid }

// Signal sends a signal; a program that has ended does not mind.
func (p *Process) Signal(signal os.Signal) { _ = p.command.Process.Signal(signal) }

// Kill ends the program with SIGKILL and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	_ = p.command.Process.Kill()
	p.Wait(t, patience)
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the program's end and gives its exit code, -1 if a signal ended
// it. It fails the test when limit passes first.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.command.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("%v did not end within %v", p.command.Args, limit)
		return -1
	}
}

// Output is what the program has written so far, its last 64 KiB.
func (p *Process) Output() string { return p.output.String() }

// output keeps the end of what is written to it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// keptOutput bounds what is kept of a program's output, in bytes.
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

// Node starts `posta node` on addr with more arguments, and waits until it
// accepts connections.
func Node(t testing.TB, addr string, args ...string) *Process {
	t.Helper()
	p := Start(t, Posta(t), append([]string{"node", "--listen", addr}, args...)...)
	p.await(t, addr)
	return p
}

// Nginx starts Nginx with a configuration that listens on addr, and waits until
// it accepts connections.
func Nginx(t testing.TB, config, addr string) *Process {
	t.Helper()
	NeedServer(t, "nginx")
	p := Start(t, "nginx", "-e", "stderr", "-c", write(t, "nginx.conf", config))
	p.await(t, addr)
	return p
}

// HAProxy starts HAProxy with a configuration that listens on addr, and waits
// until it accepts connections.
func HAProxy(t testing.TB, config, addr string) *Process {
	t.Helper()
	NeedServer(t, "haproxy")
	p := Start(t, "haproxy", "-db", "-f", write(t, "haproxy.cfg", config))
	p.await(t, addr)
	return p
}

// await waits until the program accepts connections on addr.
func (p *Process) await(t testing.TB, addr string) {
	t.Helper()
	Eventually(t, patience, func() error {
		if !p.running() {
			t.Fatalf("%v has ended:\n%s", p.command.Args, p.Output())
		}
		if err := Accepts(addr)(); err != nil {
			return fmt.Errorf("%v: %w", p.command.Args, err)
		}
		return nil
	})
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
