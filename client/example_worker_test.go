package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"

	"github.com/posta-tasks/posta"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// A worker has the same actions as a program with posta.Main, and runs them for nodes elsewhere.
func ExampleWorker() {
	addr, stop := someNode() // in place of posta up
	defer stop()

	type person struct {
		Name string `json:"name"`
	}
	worker := client.Worker{Addr: addr, Slots: 8, Actions: []actions.Action{
		posta.Action("greet", func(ctx context.Context, in person) (string, error) {
			posta.Progress(ctx, 50, "half")
			return "hello " + in.Name, nil
		}),
	}}
	// A program uses signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM): the worker then finishes what it has begun.
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := worker.Run(ctx); err != nil {
			log.Fatal(err)
		}
	})
	defer running.Wait()
	defer cancel()

	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	final, err := c.EnqueueWait(ctx, "greet", person{"Ana"}, client.EnqueueOptions{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(final.State, final.Result)
	// Output: done {"ok":true,"data":"hello Ana"}
}

// someNode starts a node with a store in memory.
func someNode() (addr string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.New(node.Config{Listener: listener, Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	return n.Addr().String(), func() {
		cancel()
		running.Wait()
	}
}
