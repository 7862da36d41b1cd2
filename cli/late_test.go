package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
)

// stopping is a log that ends a context when it says something.
type stopping struct {
	testenv.Buffer
	at  string
	end func()
}

func (s *stopping) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if strings.Contains(s.String(), s.at) {
		s.end()
	}
	return n, err
}

// TestANodeThatWaitsForItsStoreStopsAtSIGTERM has a store that never comes.
func TestANodeThatWaitsForItsStoreStopsAtSIGTERM(t *testing.T) {
	t.Parallel()
	const secret = "s3cret-of-mine"
	ctx, cancel := context.WithCancelCause(t.Context())
	log := &stopping{at: "waiting for what this node needs", end: func() { cancel(signalled{syscall.SIGTERM}) }}
	code := run(ctx, &terminal.Outside{
		Args: []string{"node", "--listen", "127.0.0.1:0"}, Stdin: strings.NewReader(""), Stdout: log, Stderr: log,
		Env: []string{"POSTA_STORE=postgres://u:" + secret + "@127.0.0.1:1/d"},
	})
	if text := log.String(); code != 0 || strings.Contains(text, secret) || !strings.Contains(text, "stopped while waiting") {
		t.Errorf("exit code %d, it says:\n%s", code, text)
	}
}

// TestANodeMayStartBeforeItsDatabase is what machines do that start together.
func TestANodeMayStartBeforeItsDatabase(t *testing.T) {
	t.Parallel()
	db, addr := testenv.StartPostgres(t), testenv.FreeAddr(t)
	db.Stop()
	command := exec.Command(testenv.Posta(t), "node", "--listen", addr, "--log-format", "json", "--drain-delay", "0s")
	command.Env = append(os.Environ(), "POSTA_STORE="+db.URL())
	node := testenv.StartCommand(t, command)
	testenv.Eventually(t, patience, func() error {
		if text := node.Output(); !strings.Contains(text, "waiting for what this node needs") {
			return fmt.Errorf("it does not wait: %s", text)
		}
		return nil
	})
	if testenv.Accepts(addr)() == nil {
		t.Error("it listens although it cannot take tasks yet")
	}
	db.Start()
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	said := dialSaid(t, addr)
	id := said.ask(t, `{"op":"enqueue","action":"upper","payload":"hola"}`).Task
	if got := said.ask(t, `{"op":"wait","task":"`+id+`"}`); got.Status != "done" || got.Result.Data != "HOLA" {
		t.Errorf("its first task ends as %+v", got)
	}
	node.Signal(syscall.SIGTERM) // before the database goes
	if code := node.Wait(t, patience); code != 0 || !strings.Contains(node.Output(), "the part that this node waited for is available") {
		t.Errorf("it ends with %d and says:\n%s", code, node.Output())
	}

	// What does not pass is said at once, with the exit code after which a supervisor does not try again.
	wrong := strings.Replace(db.URL(), "/postgres?", "/nowhere?", 1)
	if got := typeIn(t, "", []string{"POSTA_STORE=" + wrong}, "node", "--listen", "127.0.0.1:0"); got.code != 78 || !strings.Contains(got.stderr, "nowhere") {
		t.Errorf("a database that is not there: exit code %d, %s", got.code, got.stderr)
	}
}

// TestWhatIsWrongIsSaidBeforeAnythingIsWaitedFor has a store that never comes, and a broker that is none.
func TestWhatIsWrongIsSaidBeforeAnythingIsWaitedFor(t *testing.T) {
	t.Parallel()
	got := typeIn(t, "", []string{"POSTA_STORE=postgres://u@127.0.0.1:1/d", "POSTA_BROKER=kafka://h"}, "node", "--listen", "127.0.0.1:0")
	if got.code != 78 || !strings.Contains(got.stderr, "no broker is known") || strings.Contains(got.stderr, "waiting for") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}
