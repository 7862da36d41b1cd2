package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/task"
)

// startNode runs a real node on an address. stop drains it.
func startNode(t testing.TB, addr string, cfg node.Config) (n *node.Node, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = listener
	if n, err = node.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return n, stop
}

// toNode returns a client of a node.
func toNode(t testing.TB, n *node.Node, cfg client.Config) *client.Client {
	t.Helper()
	cfg.Addr = n.Addr().String()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestARealNodeRunsTheBuiltInActions(t *testing.T) {
	t.Parallel()
	// On this node, lines without an op are enqueued, so this checks that the client sends the op.
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Name: "n1", DefaultOp: "enqueue"})
	c := toNode(t, n, client.Config{})
	for _, test := range []struct {
		action  string
		payload any
		want    string
	}{
		{"echo", map[string]int{"a": 1}, `{"ok":true,"data":{"a":1}}`},
		{"upper", "straße", `{"ok":true,"data":"STRASSE"}`},
		{"sleep", 0.01, `{"ok":true,"slept":0.01}`},
		{"fib", 25, `{"ok":true,"fib":75025}`},
	} {
		if result, err := c.Run(t.Context(), test.action, test.payload); err != nil || result.String() != test.want {
			t.Errorf("%s: got %s, %v; want %s", test.action, result, err, test.want)
		}
	}
	info, err := c.Info(t.Context())
	if err != nil || info.Node != "n1" || info.Protocol != 1 || len(info.Actions) != 4 {
		t.Errorf("info: got %+v, %v", info, err)
	}
	_, err = c.Do(t.Context(), client.Request{Action: "sleep", Payload: []byte("5"), Timeout: 50 * time.Millisecond})
	var failure *client.ActionError
	if !errors.As(err, &failure) || !strings.Contains(failure.Message, "timed out") {
		t.Errorf("timeout: got %v", err)
	}
}

func TestARealNodeRequiresItsToken(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("a-token-of-the-test"))
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("tester sha256:"+hex.EncodeToString(digest[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Tokens: tokens})
	if _, err := toNode(t, n, client.Config{Token: "a-token-of-the-test"}).Run(t.Context(), "echo", 1); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"another-token", ""} {
		if _, err := toNode(t, n, client.Config{Token: token}).Run(t.Context(), "echo", 1); task.CodeOf(err) != task.Unauthenticated {
			t.Errorf("token %q: got %v", token, err)
		}
	}
}

func TestAStreamRunsOnARealNode(t *testing.T) {
	t.Parallel()
	n, _ := startNode(t, "127.0.0.1:0", node.Config{})
	checkNumbers(t, 20_000, client.Stream(t.Context(), toNode(t, n, client.Config{}), numbers(20_000)))
}

// TestARollingRestartLosesNoRequest drains a real node under load and starts the next one on
// the same address, several times.
func TestARollingRestartLosesNoRequest(t *testing.T) {
	t.Parallel()
	n, stop := startNode(t, "127.0.0.1:0", node.Config{})
	addr := n.Addr().String()
	c := toNode(t, n, client.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	answered := make(chan struct{})
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Run(t.Context(), "upper", "hola"); err != nil {
					t.Error(err)
					return
				}
				select {
				case answered <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	await := func(count int) {
		deadline := time.After(2 * time.Minute)
		for range count {
			select {
			case <-answered:
			case <-deadline:
				t.Fatal("the callers make no progress")
			}
		}
	}
	for range 4 {
		await(200)
		stop()
		_, stop = startNode(t, addr, node.Config{})
	}
	await(200)
	cancel()
	callers.Wait()
}
