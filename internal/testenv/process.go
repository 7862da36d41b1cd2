package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/process"
)

// patience is how long a program may take to end after SIGTERM.
const patience = 10 * time.Second

// Process is a program that a test has started. It is stopped at the end of the test at the latest. If the test
// fails, its output is shown. Its methods are safe for concurrent use.
type Process struct{ *process.Process }

// Start starts a program with its arguments.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	path, err := locate(program)
	if err != nil {
		t.Fatal(err)
	}
	return StartCommand(t, exec.Command(path, args...))
}

// StartCommand starts a command, and records its output unless the command already has a Stdout or Stderr. The
// program gets SIGTERM if the test process dies.
func StartCommand(t testing.TB, command *exec.Cmd) *Process {
	t.Helper()
	started, err := process.Start(command, syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{started}
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("output of %v:\n%s", p.Command(), p.Output())
		}
	})
	return p
}

// stop ends the program with SIGTERM, and with SIGKILL if it does not end.
func (p *Process) stop(t testing.TB) {
	t.Helper()
	if !p.HasEnded() && !p.Stop(patience) {
		t.Errorf("%v did not end within %v of SIGTERM", p.Command(), patience)
	}
}

// Signal sends a signal. It does nothing if the program has ended.
func (p *Process) Signal(signal os.Signal) { _ = p.Process.Signal(signal) }

// Kill ends the program with SIGKILL and waits until it has ended.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGKILL)
	p.Wait(t, patience)
}

// Wait waits for the end of the program and returns its exit code, or -1 if a signal ended it. It fails the test
// after limit.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.Ended():
		return p.State().ExitCode()
	case <-time.After(limit):
		t.Fatalf("%v did not end within %v", p.Command(), limit)
		return -1
	}
}

// Node starts `posta node` on addr with additional arguments, and waits until it accepts connections.
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
		if p.HasEnded() {
			t.Fatalf("%v has ended:\n%s", p.Command(), p.Output())
		}
		if err := Accepts(addr)(); err != nil {
			return fmt.Errorf("%v: %w", p.Command(), err)
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
