package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/line"
)

// Control sends requests about tasks and queues to a Posta, one after the other. One goroutine may use it.
type Control struct{ conn *line.Conn }

// Open connects. The caller closes it.
func Open(ctx context.Context, addr string) (*Control, error) {
	conn, err := line.Dial(ctx, addr, replyTime)
	if err != nil {
		return nil, err
	}
	return &Control{conn}, nil
}

// Close closes the connection.
func (c *Control) Close() { c.conn.Close() }

// reply has the members of an answer that are used here.
type reply struct {
	Status  string
	Task    string
	Attempt int
	Code    string
	Result  struct {
		OK     bool
		Data   string
		Queues []struct {
			Queue                              string
			Scheduled, Queued, Running, Failed int
		}
		Tasks  []struct{ Task, Status string }
		Cursor string
	}
}

// ask sends a request and reads one line.
func (c *Control) ask(format string, args ...any) (reply, error) {
	if err := c.conn.Send(format, args...); err != nil {
		return reply{}, err
	}
	return c.next()
}

func (c *Control) next() (reply, error) {
	var r reply
	text, err := c.conn.Next(&r)
	if err == nil && r.Status == "error" {
		err = load.Unexpected(text)
	}
	return r, err
}

// Pause pauses a queue. It first enqueues a task and cancels it, since only a queue that exists can be paused.
func (c *Control) Pause(queue string) error {
	first, err := c.ask(`{"op":"enqueue","action":"upper","delay":3600,"queue":%q}`, queue)
	if err == nil {
		_, err = c.ask(`{"op":"pause","queue":%q}`, queue)
	}
	if err == nil {
		_, err = c.ask(`{"op":"cancel","task":%q}`, first.Task)
	}
	return err
}

// Settle waits until all tasks of a queue are recorded. A failed task is an error.
func (c *Control) Settle(ctx context.Context, queue string) error {
	for end := time.Now().Add(settleTime); ; {
		open, err := c.open(queue)
		if err != nil || open == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d tasks are not done after %v", open, settleTime)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePoll):
		}
	}
}

// open returns the number of unfinished tasks of a queue.
func (c *Control) open(queue string) (int, error) {
	r, err := c.ask(`{"op":"queues"}`)
	if err != nil {
		return 0, err
	}
	for _, q := range r.Result.Queues {
		switch {
		case q.Queue != queue:
		case q.Failed > 0:
			return 0, fmt.Errorf("%d tasks have failed", q.Failed)
		default:
			return q.Scheduled + q.Queued + q.Running, nil
		}
	}
	return 0, nil
}

// check reads and checks the records of some tasks of a round.
func (c *Control) check(ids []string, r Round) error {
	for _, id := range ids {
		got, err := c.ask(`{"op":"get","task":%q}`, id)
		if err != nil {
			return err
		}
		done := got.Status == "done" && got.Attempt >= 1 && got.Result.OK && got.Result.Data == "HOLA"
		if r.Queue != Backlog && !done || r.Queue == Backlog && got.Status != "queued" {
			return fmt.Errorf("task %s of the queue %s is recorded as %+v", id, r.Queue, got)
		}
	}
	return nil
}

// Serve enqueues a task and waits until it is done.
func (c *Control) Serve() error {
	r, err := c.ask(`{"op":"enqueue","action":"upper","payload":"hola","keep":1,"wait":true}`)
	for err == nil && r.Status == "queued" {
		r, err = c.next()
	}
	if err == nil && (r.Status != "done" || r.Result.Data != "HOLA") {
		err = fmt.Errorf("the task ended as %+v", r)
	}
	return err
}
