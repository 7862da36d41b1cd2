package chaos

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

// patience is for machines that are very busy.
const patience = 2 * time.Minute

func TestANodeIsKeptAliveWhateverIsDoneToIt(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	happened, err := history.Append(filepath.Join(dir, "happened.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(nodeConfig{
		Name: "n1", Binary: testenv.Posta(t), Addr: addr, Logs: dir, Happened: happened,
		Args: []string{"node", "--listen", addr, "--drain-delay", "0"},
	})
	life, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.run(life) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, step := range []func(context.Context) error{
		n.awaitUp, n.kill, n.awaitUp, n.restart, n.awaitUp,
		func(ctx context.Context) error { return n.pause(ctx, time.Millisecond) },
		func(ctx context.Context) error { n.onNextStart("POSTA_SLOTS=none"); return n.kill(ctx) }, // it cannot start, and then it can
		n.awaitUp,
	} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := happened.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "happened.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	count := func(what string) int { return strings.Count(string(text), what) }
	if count("signal: killed") != 2 || count("exit status 0") != 2 || count(`"up"`) != 4 || count(`"death"`) != 5 {
		t.Errorf("what happened:\n%s", text)
	}
}

func TestANodeThatCannotStartIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	happened, err := history.Append(filepath.Join(dir, "happened.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer happened.Close()
	n := newNode(nodeConfig{
		Name: "n1", Binary: testenv.Posta(t), Addr: testenv.FreeAddr(t), Logs: dir, Happened: happened, Args: []string{"node", "--nonsense"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.run(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("it is tried for ever: %v", err)
	}
}
