package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/sqlite"
)

// greetAll is an action that takes a while and reports progress.
func greetAll(ctx context.Context, call *actions.Call) (any, error) {
	var names, greetings []string
	if err := json.Unmarshal(call.Payload, &names); err != nil {
		return nil, actions.Permanent(err) // trying again would not help
	}
	for i, name := range names {
		call.Report(100*float64(i)/float64(len(names)), "greeting "+name)
		greetings = append(greetings, "hola, "+name)
	}
	return greetings, ctx.Err()
}

// A program embeds everything: a node, a store in a file, and its own action. The task is
// finished even if the process dies meanwhile.
func Example_durable() {
	dir, _ := os.MkdirTemp("", "posta")
	defer os.RemoveAll(dir)
	store, err := sqlite.Open(sqlite.Config{Path: filepath.Join(dir, "posta.db")})
	if err != nil {
		panic(err)
	}
	defer store.Close()
	n, err := node.New(node.Config{
		Listen:  "127.0.0.1:0",
		Actions: []actions.Action{actions.New("greet", greetAll)},
		Durable: &durable.Config{Store: store, RunsSuspects: true},
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()

	c, _ := client.New(client.Config{Addr: n.Addr().String()})
	task, _ := c.Enqueue(ctx, "greet", []string{"Ana", "Bea"}, client.EnqueueOptions{Key: "greetings"})
	record, _ := c.Wait(ctx, task.Task)
	fmt.Println(record.State, record.Result)
	c.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// done {"ok":true,"data":["hola, Ana","hola, Bea"]}
	// <nil>
}

// An action is a function, so a test can call it without a server.
func Example_testingAnAction() {
	call := &actions.Call{Payload: []byte(`["Ana","Bea"]`), OnReport: func(percent float64, message string) {
		fmt.Println(percent, message)
	}}
	fmt.Println(greetAll(context.Background(), call))
	_, err := greetAll(context.Background(), &actions.Call{Payload: []byte(`7`)})
	fmt.Println("is another attempt worth while?", !actions.IsPermanent(err))
	// Output:
	// 0 greeting Ana
	// 50 greeting Bea
	// [hola, Ana hola, Bea] <nil>
	// is another attempt worth while? false
}
