package client_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// counting returns echo under a name, which counts its runs and sends when it has run count times.
func counting(name string, count int) (echo actions.Action, all chan struct{}) {
	echo, all = actions.Builtin()[0], make(chan struct{})
	inner := echo.Append
	var runs atomic.Int64
	echo.Name = name
	echo.Append = func(ctx context.Context, call *actions.Call, dst []byte) ([]byte, error) {
		if int(runs.Add(1)) == count {
			close(all)
		}
		return inner(ctx, call, dst)
	}
	return echo, all
}

// BenchmarkWorker compares durable tasks and direct runs of an action of the node with the same action of a worker that has
// 64 slots.
func BenchmarkWorker(b *testing.B) {
	for _, where := range []string{"node", "worker"} {
		for _, kind := range []string{"durable", "direct"} {
			b.Run(kind+"/"+where, func(b *testing.B) {
				echo, all := counting("counted", b.N)
				cfg := node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}, Actions: actions.Builtin()}
				if where == "node" {
					cfg.Actions = append(cfg.Actions, echo)
				}
				n, _ := startNode(b, "127.0.0.1:0", cfg)
				if where == "worker" {
					workFor(b, client.Worker{Addr: n.Addr().String(), Slots: 64, Actions: []actions.Action{echo}})
				}
				c, err := client.New(client.Config{Addr: n.Addr().String()})
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				awaitAction(b, c, "counted")
				b.ResetTimer()
				if kind == "direct" {
					runAll(b, c)
					return
				}
				enqueueAll(b, c)
				<-all
			})
		}
	}
}

// awaitAction runs another action until the node lists an action of a worker that connects meanwhile.
func awaitAction(b *testing.B, c *client.Client, action string) {
	b.Helper()
	for {
		info, err := c.Info(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range info.Actions {
			if name == action {
				return
			}
		}
	}
}

func runAll(b *testing.B, c *client.Client) {
	var running sync.WaitGroup
	for i := range 128 {
		running.Go(func() {
			for range (b.N + i) / 128 {
				if _, err := c.Run(b.Context(), "counted", 1); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

func enqueueAll(b *testing.B, c *client.Client) {
	tasks := func(yield func(int, client.EnqueueRequest) bool) {
		for i := range b.N {
			if !yield(i, client.EnqueueRequest{Action: "counted", Payload: fmt.Append(nil, i)}) {
				return
			}
		}
	}
	for _, a := range client.StreamEnqueue(b.Context(), c, tasks) {
		if a.Err != nil {
			b.Fatal(a.Err)
		}
	}
}
