package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// durableClient starts a node with a store in memory, in place of `posta up --data DIR`, and
// returns a client of it.
func durableClient() (c *client.Client, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.New(node.Config{
		Name: "n1", Listener: listener, Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	if c, err = client.New(client.Config{Addr: n.Addr().String()}); err != nil {
		log.Fatal(err)
	}
	return c, func() {
		_ = c.Close()
		cancel()
		running.Wait()
	}
}

func ExampleClient_Enqueue() {
	c, stop := durableClient()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// With a key it does no harm to send the task twice, so the client does it if needed, and so may you.
	accepted, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{
		Queue: "mail", Key: "order-17", Meta: map[string]string{"user": "7"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(accepted.State) // from now on no crash loses the task

	record, err := c.Wait(ctx, accepted.Task)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(record.State, record.Result, "attempt", record.Attempt)
	// Output:
	// queued
	// done {"ok":true,"data":"HOLA"} attempt 1
}

func ExampleClient_Enqueue_errors() {
	c, stop := durableClient()
	defer stop()
	ctx := context.Background()
	if _, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{Key: "k"}); err != nil {
		log.Fatal(err)
	}

	_, err := c.Enqueue(ctx, "upper", "adios", client.EnqueueOptions{Key: "k"})
	var refusal *task.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == task.UnknownOutcome:
		fmt.Println("it may have been accepted")
	case errors.As(err, &refusal) && refusal.Code == task.KeyConflict:
		fmt.Println("the key belongs to another task, with an id of", len(refusal.Task), "characters")
	case err != nil:
		fmt.Println("not accepted:", err)
	}
	// Output: the key belongs to another task, with an id of 26 characters
}

func ExampleClient_EnqueueWait() {
	c, stop := durableClient()
	defer stop()

	final, err := c.EnqueueWait(context.Background(), "fib", 25, client.EnqueueOptions{},
		func(a client.Accepted) { fmt.Println(a.State) })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(final.State, final.Result)
	// Output:
	// queued
	// done {"ok":true,"fib":75025}
}

func ExampleStreamEnqueue() {
	c, stop := durableClient()
	defer stop()

	// The tasks may be a million, read from a file as they are sent.
	words := func(yield func(string, client.EnqueueRequest) bool) {
		for _, word := range []string{"uno", "dos", "tres"} {
			if !yield(word, client.EnqueueRequest{Action: "upper", Payload: fmt.Appendf(nil, "%q", word)}) {
				return
			}
		}
	}
	count := 0
	for word, acceptance := range client.StreamEnqueue(context.Background(), c, words) {
		if acceptance.Err != nil {
			log.Fatal(word, acceptance.Err)
		}
		count++
	}
	fmt.Println(count, "are accepted")
	// Output: 3 are accepted
}

func ExampleClient_Watch() {
	c, stop := durableClient()
	defer stop()
	ctx := context.Background()
	accepted, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{})
	if err != nil {
		log.Fatal(err)
	}

	for event, err := range c.Watch(ctx, accepted.Task, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Seq, event.State)
	}
	// Output:
	// 1 queued
	// 2 running
	// 3 done
}

func ExampleClient_Cancel() {
	c, stop := durableClient()
	defer stop()
	ctx := context.Background()
	accepted, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{Delay: time.Hour})
	if err != nil {
		log.Fatal(err)
	}

	if _, err := c.Cancel(ctx, accepted.Task); err != nil {
		log.Fatal(err)
	}
	record, err := c.Get(ctx, accepted.Task)
	fmt.Println(record.State, err)

	generation, err := c.Retry(ctx, accepted.Task)
	if err != nil {
		log.Fatal(err)
	}
	record, err = c.Wait(ctx, accepted.Task)
	fmt.Println("retry", generation, record.State, err)
	// Output:
	// cancelled <nil>
	// retry 1 done <nil>
}

func ExampleClient_List() {
	c, stop := durableClient()
	defer stop()
	ctx := context.Background()
	first, err := c.Enqueue(ctx, "echo", 0, client.EnqueueOptions{Queue: "mail"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Wait(ctx, first.Task); err != nil {
		log.Fatal(err)
	}
	if err := c.Pause(ctx, "mail"); err != nil { // its tasks do not start
		log.Fatal(err)
	}
	for i := range 5 {
		if _, err := c.Enqueue(ctx, "echo", i, client.EnqueueOptions{Queue: "mail"}); err != nil {
			log.Fatal(err)
		}
	}

	query := client.Query{Filter: client.Filter{Queue: "mail", State: task.Queued}, Limit: 2}
	for more := true; more; more = query.Cursor != "" {
		page, err := c.List(ctx, query)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("a page of", len(page.Tasks))
		query.Cursor = page.Cursor
	}
	bulk, err := c.CancelWhere(ctx, query.Filter, 0)
	fmt.Println("cancelled", bulk.Changed, err)
	// Output:
	// a page of 2
	// a page of 2
	// a page of 1
	// cancelled 5 <nil>
}

func ExampleClient_Queues() {
	c, stop := durableClient()
	defer stop()
	ctx := context.Background()
	if _, err := c.Enqueue(ctx, "echo", 1, client.EnqueueOptions{Queue: "mail", Delay: time.Hour}); err != nil {
		log.Fatal(err)
	}
	if err := c.Pause(ctx, "mail"); err != nil { // its tasks do not start
		log.Fatal(err)
	}
	queues, err := c.Queues(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, q := range queues {
		fmt.Println(q.Queue, "paused:", q.Paused, "scheduled:", q.Scheduled)
	}
	fmt.Println(c.Resume(ctx, "mail"))
	// Output:
	// mail paused: true scheduled: 1
	// <nil>
}
