package testenv_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// skipper stands in for a test and remembers what Need did to it.
type skipper struct {
	testing.TB
	skipped, failed bool
}

func (s *skipper) Helper()      {}
func (s *skipper) Skip(...any)  { s.skipped = true }
func (s *skipper) Fatal(...any) { s.failed = true }

func TestAMissingProgramSkipsATestAndFailsItUnderCheck(t *testing.T) {
	for _, c := range []struct {
		check           string
		skipped, failed bool
	}{
		{"", true, false},
		{"1", false, true},
	} {
		t.Setenv(testenv.Check, c.check)
		s := &skipper{TB: t}
		testenv.Need(s, "go", "a-program-that-nobody-has")
		if s.failed != c.failed || (!s.failed && s.skipped != c.skipped) {
			t.Errorf("with %s=%q: skipped %v, failed %v", testenv.Check, c.check, s.skipped, s.failed)
		}
	}
	if os.Getenv("POSTA_CHECK") != "1" {
		t.Error("the variable is not the one that make check sets")
	}
}

func TestAFreeAddressIsFreeAndNotOneForOutgoingConnections(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddr(t)
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := strconv.Atoi(port); n >= 32_768 {
		t.Errorf("port %d may be taken by any outgoing connection", n)
	}
}

func TestAProcessTellsItsExitCodeAndItsOutput(t *testing.T) {
	t.Parallel()
	p := testenv.Start(t, "sh", "-c", "echo hola; exit 3")
	if code := p.Wait(t, 2*time.Minute); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if p.Output() != "hola\n" {
		t.Errorf("output %q", p.Output())
	}
	p.Signal(syscall.SIGTERM) // it is gone: no harm
}

func TestAProcessIsStoppedWhenItsTestEnds(t *testing.T) {
	t.Parallel()
	var p *testenv.Process
	t.Run("inner", func(t *testing.T) { p = testenv.Start(t, "sleep", "60") })
	select {
	case <-p.Ended():
	default:
		t.Error("still running")
	}
}
