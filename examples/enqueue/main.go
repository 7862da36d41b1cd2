// Command enqueue enqueues durable tasks with the Go package client: it waits for the first, watches and cancels
// the second, and then enqueues many. It sends them to POSTA_TO (127.0.0.1:9000), which must be a server with a
// store: posta up --data DIR.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/posta-tasks/posta/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.New(client.Config{Addr: cmp.Or(os.Getenv("POSTA_TO"), "127.0.0.1:9000")})
	if err == nil {
		defer c.Close()
		err = errors.Join(one(ctx, c), watched(ctx, c), many(ctx, c))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// one enqueues a task. From then on no crash loses it, so another program could wait for it tomorrow.
func one(ctx context.Context, c *client.Client) error {
	accepted, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{})
	if err != nil {
		return err
	}
	record, err := c.Wait(ctx, accepted.Task)
	if err != nil {
		return err
	}
	fmt.Println(record.State, record.Result)
	return nil
}

// watched follows a task until it cancels it.
func watched(ctx context.Context, c *client.Client) error {
	accepted, err := c.Enqueue(ctx, "upper", "mañana", client.EnqueueOptions{Delay: 24 * time.Hour})
	if err != nil {
		return err
	}
	for event, err := range c.Watch(ctx, accepted.Task, 0) {
		if err != nil {
			return err
		}
		fmt.Println(event.Seq, event.State)
		if event.Seq > 1 {
			break
		}
		if _, err := c.Cancel(ctx, accepted.Task); err != nil {
			return err
		}
	}
	return nil
}

// many streams tasks. A million would need no more memory. Since each has a key, they can be sent again when a
// connection breaks, and this whole program can run again.
func many(ctx context.Context, c *client.Client) error {
	tasks := func(yield func(int, client.EnqueueRequest) bool) {
		for i := range 1000 {
			task := client.EnqueueRequest{Action: "fib", Payload: fmt.Append(nil, i)}
			task.Queue, task.Key = "numbers", fmt.Sprintf("fib-%d", i)
			if !yield(i, task) {
				return
			}
		}
	}
	count := 0
	for i, acceptance := range client.StreamEnqueue(ctx, c, tasks) {
		if acceptance.Err != nil {
			return fmt.Errorf("task %d: %w", i, acceptance.Err)
		}
		count++
	}
	fmt.Println(count, "accepted")
	return nil
}
