//go:build chaos

package fail

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestVictim does what the environment asks for; it is for the tests below.
func TestVictim(t *testing.T) {
	if os.Getenv(PointsVariable) == "" {
		t.Skip("nothing is asked for: the other tests do that")
	}
	for range 3 {
		Point("claim.asked")
		t.Log("passed")
		if err := Error("claim.written"); errors.Is(err, ErrAsked) {
			t.Log("failed")
		}
	}
}

func victim(t *testing.T, variable string) (string, *os.ProcessState) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$", "-test.v")
	command.Env = append(os.Environ(), variable)
	out, _ := command.CombinedOutput() // its state says how it ended
	return string(out), command.ProcessState
}

func TestAPointKillsTheProcessAtThePassingThatIsAskedFor(t *testing.T) {
	t.Parallel()
	out, state := victim(t, PointsVariable+"=claim.asked=kill@3")
	status, _ := state.Sys().(syscall.WaitStatus)
	if strings.Count(out, "passed") != 2 || status.Signal() != syscall.SIGKILL {
		t.Errorf("%v\n%s", state, out)
	}
}

func TestAPointFailsAtThePassingThatIsAskedForOrEachTime(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]int{"error": 3, "error@2": 1, "error@4": 0, "pause:1ms": 0} {
		out, state := victim(t, PointsVariable+"=claim.written="+asked)
		if strings.Count(out, "failed") != want || !state.Success() {
			t.Errorf("%s: %v\n%s", asked, state, out)
		}
	}
}

func TestAWrongNameEndsTheProcessAndSaysWhy(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		PointsVariable + "=accept.comitted=kill": `posta: error: POSTA_FAILPOINTS: there is no point "accept.comitted"`,
	} {
		if out, state := victim(t, variable); state.ExitCode() != 2 || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", variable, state, out)
		}
	}
}
