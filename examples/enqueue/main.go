// Command enqueue has tasks accepted for good with the Go package client: one that is
// waited for, one that is watched and cancelled, then many. It talks to POSTA_TO
// (127.0.0.1:9000), which must be a server with a store: posta up --data DIR.
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

// one has a task accepted. From then on no crash loses it, so the waiting could as well
// be done by another program, tomorrow.
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

// watched follows a task through its life, which is cut short here.
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

// many streams tasks: a million would need no more memory. With a key each, they may be
// sent again when a connection breaks, and this whole program may be run again.
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
