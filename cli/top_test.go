package cli

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestTopShowsARunningSystemAndPausesAQueue types keys into posta top, which draws on a terminal that the test reads.
func TestTopShowsARunningSystemAndPausesAQueue(t *testing.T) {
	t.Parallel()
	posta, addr := testenv.Posta(t), testenv.FreeAddr(t)
	server := testenv.Start(t, posta, "up", "--data", filepath.Join(t.TempDir(), "data"), "--listen", addr, "--nodes", "127.0.0.1:0", "--log-level", "error")
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	if text, err := exec.CommandContext(t.Context(), posta, "enqueue", "echo", "hola", "-q", "mail", "--wait", "--to", addr).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	keyboard, keys := io.Pipe()
	var stdout screen
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), &terminal.Outside{Args: []string{"top", "--to", addr}, Stdin: keyboard, Stdout: &stdout, Stderr: io.Discard,
			Env: []string{"NO_COLOR=1", "TERM=xterm"}})
	}()
	sees := func(text string) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			if !strings.Contains(stdout.String(), text) {
				return fmt.Errorf("%q is not on the screen: %q", text, stdout.String())
			}
			return nil
		})
	}
	types := func(key string) {
		t.Helper()
		if _, err := keys.Write([]byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	sees("> mail")
	sees("node1")
	types("p")
	testenv.Eventually(t, patience, func() error {
		text, err := exec.CommandContext(t.Context(), posta, "queues", "--json", "--to", addr).Output()
		if err == nil && !strings.Contains(string(text), `"queue":"mail","paused":true`) {
			err = errors.New("the queue is not paused: " + string(text))
		}
		return err
	})
	server.Kill(t)
	sees("away, trying again: ")
	types("q")
	if code := <-ended; code != 0 {
		t.Errorf("the exit code is %d", code)
	}
	if strings.Contains(stdout.String(), "\x1b[7m") || strings.Contains(stdout.String(), "\x1b[31m") {
		t.Error("there are colours in spite of NO_COLOR")
	}
}
