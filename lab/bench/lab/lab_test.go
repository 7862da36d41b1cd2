package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMain lets the test binary play the programs that a lab starts.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "repeat":
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println(lines.Text() + " " + strings.Join(os.Args[2:], " "))
		}
	case "fail":
		fmt.Fprintln(os.Stderr, "no disk")
		os.Exit(3)
	case "node":
		fmt.Fprintln(os.Stderr, "port taken")
		os.Exit(1)
	default:
		os.Exit(m.Run())
	}
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := New(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestAProcessAnswersUntilItIsEnded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p, err := l.StartSelf(t.Context(), "repeat", "and", "again")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Ask(p, "once"); got != "once and again" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	l.End(p)
	if len(l.running) != 0 {
		t.Errorf("%d processes are left", len(l.running))
	}
	if _, err := l.Ask(p, "once more"); err == nil {
		t.Error("a process answered after its end")
	}
}

func TestAProcessThatFailsIsQuoted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p, err := l.StartSelf(t.Context(), "fail")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Line(p); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
	l.posta = l.self // whose verb "node" fails
	if _, err := l.Node(t.Context()); err == nil || !strings.Contains(err.Error(), "port taken") {
		t.Errorf("got %v", err)
	}
}

func TestABalancerThatIsNotInstalledIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newLab(t).Balancer(t.Context(), Nginx, "127.0.0.1:1")
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsEverythingAndRemovesTheFiles(t *testing.T) {
	t.Parallel()
	l, err := New(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartSelf(t.Context(), "repeat")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	<-p.Ended()
	if _, err := os.Stat(l.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestTheMachineIsNamed(t *testing.T) {
	t.Parallel()
	if m := ThisMachine(); m.Cores < 1 || m.CPU == "" || !strings.Contains(m.String(), "cores") {
		t.Errorf("got %v", m)
	}
}
