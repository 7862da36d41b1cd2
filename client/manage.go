package client

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Filter selects the tasks that match all its fields. A zero field matches every task.
type Filter struct {
	Queue  string
	Action string
	State  task.State
	Owner  string            // see Record.Owner
	Meta   map[string]string // labels that a task must have, with these values
}

// Query selects a page of a list of tasks.
type Query struct {
	Filter
	// Since and Until limit when the tasks were created, both inclusive; the zero time is no limit.
	Since, Until time.Time
	// Limit is the size of a page in tasks, at most 200; 50.
	Limit int
	// Cursor is the start of the page: the Cursor of the previous page, or empty.
	Cursor string
}

// Page is a part of a list of tasks.
type Page struct {
	// Tasks are the records, the newest first, without payloads and results.
	Tasks []Record `json:"tasks"`
	// Cursor is the Query.Cursor of the next page; empty on the last one.
	Cursor string `json:"cursor,omitempty"`
}

// Bulk is the result of CancelWhere or RetryWhere.
type Bulk struct {
	Matched    int  `json:"matched"`    // tasks that match the filter
	Changed    int  `json:"changed"`    // tasks whose state changed
	Cancelling int  `json:"cancelling"` // CancelWhere: running tasks that were asked to stop
	More       bool `json:"more"`       // the limit was reached: call again for the rest
}

// Cancel ends a task for good. If the task is running, Cancel asks it to stop and cancelling
// is true: the task ends as cancelled unless its action succeeds first; call Wait for the
// result. A task that is done or failed is refused with conflict. Cancelling a cancelled task
// is no error, so a Cancel is sent again if its connection ends.
func (c *Client) Cancel(ctx context.Context, id string) (cancelling bool, err error) {
	var answer struct{ Status string }
	err = c.send(ctx, c.changing(c.newTaskRead(wire.OpCancel, id), true), &answer)
	return answer.Status == wire.StatusCancelling, err
}

// Retry queues a finished task again and returns its generation, the number of manual
// retries. A scheduled task is queued at once and keeps its generation. Retry is refused
// with conflict if the task is queued or running, or if it was cancelled and another task
// has its key. A second Retry could run the task once more, so it is sent again only with
// Config.Resend; otherwise, if its connection ended after it was written, the error's code
// is unknown_outcome.
func (c *Client) Retry(ctx context.Context, id string) (generation int, err error) {
	var answer struct{ Generation int }
	err = c.send(ctx, c.changing(c.newTaskRead(wire.OpRetry, id), c.cfg.Resend), &answer)
	return answer.Generation, err
}

// CancelWhere cancels the tasks that match a filter, at most limit of them (up to 10,000;
// 0 means 1000). The filter cannot be empty. If the connection ends after the request was
// written, the outcome is unknown, and it does no harm to call CancelWhere again.
func (c *Client) CancelWhere(ctx context.Context, filter Filter, limit int) (Bulk, error) {
	return c.where(ctx, wire.OpCancel, filter, limit)
}

// RetryWhere retries the finished tasks that match a filter, at most limit of them (up to
// 10,000; 0 means 1000). The filter cannot be empty. If the connection ends after the
// request was written, the outcome is unknown.
func (c *Client) RetryWhere(ctx context.Context, filter Filter, limit int) (Bulk, error) {
	return c.where(ctx, wire.OpRetry, filter, limit)
}

func (c *Client) where(ctx context.Context, op wire.Op, filter Filter, limit int) (Bulk, error) {
	w := c.changing(c.newRead(op), c.cfg.Resend)
	w.object("filter", func() { filter.write(&w.call) })
	w.number("limit", limit)
	var bulk Bulk
	err := c.send(ctx, w, &bulk)
	return bulk, err
}

// changing marks a call as one that changes something. repeat allows it to be sent again
// although its outcome is unknown.
func (c *Client) changing(w *waiter, repeat bool) *waiter {
	w.policy = policy{repeat: repeat}
	return w
}

// List returns a page of the tasks that match a query, the newest first.
func (c *Client) List(ctx context.Context, q Query) (Page, error) {
	w := c.newRead(wire.OpList)
	q.Filter.write(&w.call)
	w.time("since", q.Since)
	w.time("until", q.Until)
	w.number("limit", q.Limit)
	w.text("cursor", q.Cursor)
	var page Page
	err := c.send(ctx, w, &page)
	return page, err
}

func (f *Filter) write(k *call) {
	k.text("queue", f.Queue)
	k.text("action", f.Action)
	k.text("status", string(f.State))
	k.text("owner", f.Owner)
	k.labels("meta", f.Meta)
}

// Queue is the state of a queue.
type Queue struct {
	Queue         string  `json:"queue"`
	Paused        bool    `json:"paused"`
	Scheduled     int64   `json:"scheduled"`
	Queued        int64   `json:"queued"`
	Running       int64   `json:"running"`
	Failed        int64   `json:"failed"`
	OldestSeconds float64 `json:"oldest_s"` // how long its oldest queued task has waited, in seconds
	RateIn        float64 `json:"rate_in"`  // recent tasks per second
	RateOut       float64 `json:"rate_out"`
	Unserved      bool    `json:"unserved"` // no live node can run some of its scheduled and queued tasks
}

// Queues returns all queues.
func (c *Client) Queues(ctx context.Context) ([]Queue, error) {
	var answer struct{ Queues []Queue }
	err := c.send(ctx, c.newRead(wire.OpQueues), &answer)
	return answer.Queues, err
}

// Pause keeps the tasks of a queue from starting; running tasks continue. Pausing a paused
// queue is no error, so a Pause is sent again if its connection ends. A queue exists from its
// first task until none of its tasks is kept and it is not paused; any other is refused with
// not_found.
func (c *Client) Pause(ctx context.Context, queue string) error {
	return c.setPaused(ctx, wire.OpPause, queue)
}

// Resume undoes Pause. Resuming a queue that is not paused is no error; a queue that does not
// exist is refused with not_found.
func (c *Client) Resume(ctx context.Context, queue string) error {
	return c.setPaused(ctx, wire.OpResume, queue)
}

func (c *Client) setPaused(ctx context.Context, op wire.Op, queue string) error {
	w := c.changing(c.newRead(op), true)
	w.text("queue", queue)
	return c.send(ctx, w, &struct{}{})
}
