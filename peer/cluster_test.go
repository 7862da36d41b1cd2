package peer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
)

// token is that of the clients, the workers and the nodes of a real cluster.
const token = "correct-horse-battery"

// TestRunsReachAWorkerOfAnotherProcess has three processes over PostgreSQL, with a worker at one of them.
func TestRunsReachAWorkerOfAnotherProcess(t *testing.T) {
	t.Parallel()
	store := testenv.StartPostgres(t).URL()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("cluster "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	var nodes []*testenv.Process
	for range 3 {
		addr := testenv.FreeAddr(t)
		addrs = append(addrs, addr)
		nodes = append(nodes, testenv.Node(t, addr, "--store", store, "--advertise", addr, "--token-file", tokens, "--peer-token-file", tokens, "--drain-delay", "0s"))
	}
	entered := startWorker(t, addrs[1]+","+addrs[2])
	clients := make([]*client.Client, len(addrs))
	for i, addr := range addrs {
		c, err := client.New(client.Config{Addr: addr, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		clients[i] = c
		greets(t, c)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := clients[0].Run(t.Context(), "hold", nil)
		ended <- err
	}()
	<-entered
	nodes[1].Kill(t)
	var failed *client.ActionError
	if err := <-ended; !errors.As(err, &failed) || failed.Message != "the node that ran it has gone" {
		t.Errorf("the run whose node was killed ends with %v", err)
	}
	greets(t, clients[0]) // the worker has connected to the third node
	greets(t, clients[2])
}

// greets waits until a run of the worker's action succeeds.
func greets(t *testing.T, c *client.Client) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() error {
		result, err := c.Run(t.Context(), "greet", "Ana")
		if err == nil && result.String() != `{"ok":true,"data":"hello"}` {
			t.Errorf("got %s", result)
		}
		return err
	})
}

// startWorker starts a worker with the actions greet and hold. entered tells that hold has begun.
func startWorker(t *testing.T, addr string) (entered chan struct{}) {
	t.Helper()
	entered = make(chan struct{}, 10)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	w := client.Worker{Addr: addr, Token: token, Slots: 8, Drain: time.Second, Actions: []actions.Action{
		actions.New("greet", func(context.Context, *actions.Call) (any, error) { return "hello", nil }),
		actions.New("hold", func(ctx context.Context, _ *actions.Call) (any, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}),
	}}
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the worker ends with %v", err)
		}
	})
	return entered
}
