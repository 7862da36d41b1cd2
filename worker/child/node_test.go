package child_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker/child"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// await waits until the log has a text.
func await(t *testing.T, log *testenv.Buffer, text string) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		if !strings.Contains(log.String(), text) {
			return errors.New("the log has no " + text + ":\n" + log.String())
		}
		return nil
	})
}

// start runs a node with a store in memory whose workers are one script of the shell.
func start(t *testing.T, script string, limits task.Limits) (*child.Supervisor, *client.Client, *testenv.Buffer) {
	t.Helper()
	logged := &testenv.Buffer{}
	logger := slog.New(slog.NewTextHandler(logged, nil))
	n, err := node.New(node.Config{
		Name: "n", Listen: "127.0.0.1:0", Limits: limits, Logger: logger,
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := child.New(func(ctx context.Context, conn net.Conn, name string, joined func(), drain <-chan struct{}) {
		n.ServeChild(ctx, conn, lineapi.Child{Name: name, Joined: joined, Drain: drain})
	}, patience, logger)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		s.Hold()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("%v", err)
		}
		s.Close()
	})
	c, err := client.New(client.Config{Addr: n.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s.Set([]child.Program{{Name: "w", Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Count: 1}})
	return s, c, logged
}

// answering is the loop of a worker: $lease is that of the task that came last.
func answering(work, running, otherwise string) string {
	return `echo '{"id":"w","op":"work","actions":["greet"]` + work + `}'
while read -r line; do
  case $line in
    *'"status":"running"'*) lease=${line#*'"lease":"'}; lease=${lease%%'"'*}; ` + running + ` ;;
    ` + otherwise + `
  esac
done`
}

const done = `echo "{\"op\":\"done\",\"lease\":\"$lease\",\"data\":1}"`

func TestTheDeathOfAChildIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	first := t.TempDir() + "/first"
	_, c, _ := start(t, answering(`,"grace":60`, `if mkdir '`+first+`'; then exit 1; fi; `+done, ""), task.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second) // less than its grace
	defer cancel()
	accepted, err := c.Enqueue(ctx, "greet", nil, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if record, err := c.Wait(ctx, accepted.Task); err != nil || record.State != task.Done || record.Attempt != 2 || record.Worker != "n-w-1" {
		t.Errorf("%+v, %v", record, err)
	}
}

func TestAChildFinishesWhatItHoldsWhenItIsDrained(t *testing.T) {
	t.Parallel()
	s, c, logged := start(t, answering("", "echo holds it >&2", `*'"draining"'*) test -z "$lease" || `+done+`; lease= ;;`), task.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	accepted, err := c.Enqueue(ctx, "greet", nil, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, logged, "holds it")
	s.Set(nil)
	if record, err := c.Wait(ctx, accepted.Task); err != nil || record.State != task.Done || record.Attempt != 1 {
		t.Errorf("%+v, %v", record, err)
	}
	await(t, logged, `how="exit status 0"`)
}

func TestAChildThatDoesNotSpeakTheProtocolIsEnded(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"it floods and does not read":  `exec yes`,
		"its line does not end":        `head -c 3000000 /dev/zero | tr '\0' x; exec sleep 1000`,
		"it speaks HTTP":               `echo "GET / HTTP/1.1"; exec sleep 1000`,
		"it has closed its output":     `exec >&-; exec sleep 1000`,
		"it takes no tasks from stdin": `exec <&-; echo '{"op":"ping"}'; exec sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c, logged := start(t, script, task.Limits{WriteTimeout: time.Second})
			await(t, logged, "the worker has ended; it starts again")
			if _, err := c.Run(t.Context(), "upper", "hola"); err != nil { // the node goes on
				t.Errorf("%v", err)
			}
		})
	}
}
