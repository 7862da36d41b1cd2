// Command durable is a Posta node with a store and with its own action count, which takes a second for each thing
// that it counts and reports its progress. Enqueued tasks survive a kill: start the program again, and it
// continues. It keeps its tasks in POSTA_STORE (count.db) and serves POSTA_LISTEN (127.0.0.1:9001) until Ctrl-C.
// Try
//
//	posta enqueue count '["a","b","c"]' --to 127.0.0.1:9001
//	posta watch TASK --to 127.0.0.1:9001
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/sqlite"
)

// counter has the action count. pace is how long one thing takes.
type counter struct{ pace time.Duration }

// count is the action. It stops when its context ends: at its timeout, when a client cancels the task, and when the
// node stops.
func (c counter) count(ctx context.Context, call *actions.Call) (any, error) {
	var things []string
	if err := json.Unmarshal(call.Payload, &things); err != nil {
		return nil, actions.Permanent(fmt.Errorf("count wants a list of strings: %w", err)) // another attempt would not help
	}
	for i, thing := range things {
		call.Report(100*float64(i)/float64(len(things)), thing)
		select {
		case <-time.After(c.pace):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return len(things), nil
}

func serve(ctx context.Context) error {
	store, err := sqlite.Open(sqlite.Config{Path: cmp.Or(os.Getenv("POSTA_STORE"), "count.db")})
	if err != nil {
		return err
	}
	defer store.Close()
	// This process has the store to itself, so the attempts of its action died with another process.
	if _, err := store.Recover(ctx, "", []string{"count"}); err != nil {
		return err
	}
	n, err := node.New(node.Config{
		Listen:  cmp.Or(os.Getenv("POSTA_LISTEN"), "127.0.0.1:9001"),
		Actions: []actions.Action{{Name: "count", Run: counter{time.Second}.count, Slow: true}},
		Durable: &durable.Config{Store: store, RunsSuspects: true},
	})
	if err != nil {
		return err
	}
	fmt.Println("listening on", n.Addr())
	return n.Run(ctx)
}

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
