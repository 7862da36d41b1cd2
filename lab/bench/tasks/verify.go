package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	verifyDepth = 64
	// verified is the queue that Verify uses.
	verified = "verified"
	// verifyTasks are sent over each of two connections.
	verifyTasks = 1000
	listed      = 200 // records in one answer
)

// Verify enqueues tasks on an empty Posta, waits until they have run, and lists all records: each acknowledged task
// must be there once, and done. It works through a balancer too.
func Verify(ctx context.Context, to Target) error {
	r := Round{Shape: load.Shape{Connections: 2, Depth: verifyDepth}, Queue: verified, For: time.Minute, Most: verifyTasks, Keep: 600}
	flood, err := enqueue(ctx, to.Addrs, r)
	if err != nil {
		return err
	}
	c, err := Open(ctx, to.Addrs[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Settle(ctx, verified); err != nil {
		return err
	}
	if err := c.check(flood.some, r); err != nil {
		return err
	}
	seen := map[string]bool{}
	err = c.each(verified, func(id string) error {
		if seen[id] {
			return fmt.Errorf("task %s is listed twice", id)
		}
		seen[id] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range flood.some {
		if !seen[id] {
			return fmt.Errorf("task %s was acknowledged, and is not in the list", id)
		}
	}
	if len(seen) != flood.acked {
		return fmt.Errorf("%d tasks were acknowledged, %d are listed as done", flood.acked, len(seen))
	}
	return nil
}

// each lists the finished tasks of a queue.
func (c *Control) each(queue string, do func(id string) error) error {
	for cursor := ""; ; {
		page, err := c.ask(`{"op":"list","queue":%q,"status":"done","limit":%d%s}`, queue, listed, cursor)
		if err != nil {
			return err
		}
		for _, t := range page.Result.Tasks {
			if err := do(t.Task); err != nil {
				return err
			}
		}
		if page.Result.Cursor == "" {
			return nil
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, page.Result.Cursor)
	}
}

// Done counts the finished tasks of a queue that are still kept.
func (c *Control) Done(queue string) (n int, err error) {
	err = c.each(queue, func(string) error { n++; return nil })
	return n, err
}

// Gone waits until no finished task of a queue is kept any more.
func (c *Control) Gone(ctx context.Context, queue string) error {
	for end := time.Now().Add(settleTime); ; {
		page, err := c.ask(`{"op":"list","queue":%q,"status":"done","limit":1}`, queue)
		if err != nil || len(page.Result.Tasks) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("finished tasks are not deleted after %v", settleTime)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * settlePoll):
		}
	}
}
