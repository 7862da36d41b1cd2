package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/task"
)

// localNode starts a node for an example, in place of `posta up`.
func localNode() (addr string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.New(node.Config{Name: "n1", Listener: listener})
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

func Example() {
	addr, stop := localNode()
	defer stop()

	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := c.Run(ctx, "upper", "texto de prueba")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result)
	// Output: {"ok":true,"data":"TEXTO DE PRUEBA"}
}

func ExampleClient_Run_errors() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	_, err = c.Run(context.Background(), "fib", "x")
	var failure *client.ActionError
	var refusal *task.Error
	switch {
	case errors.As(err, &failure):
		fmt.Println("the action ran and failed:", failure.Action)
	case errors.As(err, &refusal) && refusal.Code == task.UnknownOutcome:
		fmt.Println("it may have run:", err)
	case errors.As(err, &refusal):
		fmt.Println("refused:", refusal.Code)
	case err != nil:
		fmt.Println("no server:", err)
	}
	// Output: the action ran and failed: fib
}

func ExampleClient_RunRaw() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Raw payloads arrive byte for byte: no number is rounded.
	result, err := c.RunRaw(context.Background(), "echo", []byte(`[1.0,12345678901234567890]`))
	fmt.Println(result, err)
	// Output: {"ok":true,"data":[1.0,12345678901234567890]} <nil>
}

func ExampleClient_Do() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	request, err := client.NewRequest("sleep", 30)
	if err != nil {
		log.Fatal(err)
	}
	request.Timeout = 100 * time.Millisecond
	request.Resend = true // sleeping twice does no harm
	_, err = c.Do(context.Background(), request)
	fmt.Println(err)
	// Output: action sleep: timed out after 0.1s
}

func ExampleStream() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// The tasks may be a million, read from a file as they are sent.
	words := func(yield func(string, client.Request) bool) {
		for _, word := range []string{"uno", "dos", "tres"} {
			request, err := client.NewRequest("upper", word)
			if err != nil || !yield(word, request) {
				return
			}
		}
	}
	// The outcomes arrive in any order, each under the key of its task.
	upper := map[string]string{}
	for word, outcome := range client.Stream(context.Background(), c, words) {
		if outcome.Err != nil {
			log.Fatal(outcome.Err)
		}
		var text string
		if err := outcome.Result.Data(&text); err != nil {
			log.Fatal(err)
		}
		upper[word] = text
	}
	for _, word := range slices.Sorted(maps.Keys(upper)) {
		fmt.Println(word, upper[word])
	}
	// Output:
	// dos DOS
	// tres TRES
	// uno UNO
}

func ExampleResult_Decode() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	result, err := c.Run(context.Background(), "fib", 25)
	if err != nil {
		log.Fatal(err)
	}
	var answer struct{ Fib int }
	if err := result.Decode(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Fib)
	// Output: 75025
}

func ExampleClient_Info() {
	addr, stop := localNode()
	defer stop()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		log.Fatal(err)
	}
	info, err := c.Info(ctx)
	fmt.Println(info.Node, info.Actions, err)
	// Output: n1 [echo fib sleep upper] <nil>
}
