package process_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/process"
)

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(exec.Command("sh", "-c", script), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestAProcessTellsItsExitCodeAndItsOutput(t *testing.T) {
	t.Parallel()
	p := start(t, "echo hola; echo oops >&2; exit 3")
	if code := p.State().ExitCode(); code != 3 || p.Output() != "hola\noops\n" || !p.HasEnded() {
		t.Errorf("exit code %d, output %q", code, p.Output())
	}
	if p.Signal(syscall.SIGTERM) == nil {
		t.Error("a signal to a process that has ended is no error")
	}
}

func TestStopKillsAProcessThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	if p := start(t, "exec sleep 60"); !p.Stop(time.Minute) {
		t.Error("SIGTERM was not enough")
	}
	p := start(t, `trap "" TERM; echo ready; exec sleep 60`)
	for !strings.Contains(p.Output(), "ready") && !p.HasEnded() {
		<-time.After(time.Millisecond)
	}
	if p.Stop(time.Millisecond) || p.State().Success() {
		t.Error("a process that ignores SIGTERM was not killed")
	}
}

func TestAProgramThatIsNotThereCannotBeStarted(t *testing.T) {
	t.Parallel()
	if _, err := process.Start(exec.Command("/a-program-that-nobody-has"), syscall.SIGKILL); err == nil {
		t.Error("it was started")
	}
}
