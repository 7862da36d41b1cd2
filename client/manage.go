package client

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Filter says which tasks are meant: those that match all its fields. A zero field
// matches every task.
type Filter struct {
	Queue  string
	Action string
	State  task.State
	Meta   map[string]string // labels that a task must have, with these values
}

// Query asks for a page of a list.
type Query struct {
	Filter
	// Since and Until bound when the tasks were created, both included; the zero time is no bound.
	Since, Until time.Time
	// Limit is how many tasks a page has, at most 200; 50.
	Limit int
	// Cursor is where the page begins: that of the page before, or empty.
	Cursor string
}

// Page is a part of a list.
type Page struct {
	// Tasks are the records, the newest first, without payloads and results.
	Tasks []Record `json:"tasks"`
	// Cursor asks for the next page; empty: this was the last one.
	Cursor string `json:"cursor,omitempty"`
}

// Bulk says what a change by filter has done.
type Bulk struct {
	Matched    int  `json:"matched"`    // tasks that the filter found
	Changed    int  `json:"changed"`    // of them, those whose state was changed
	Cancelling int  `json:"cancelling"` // of a cancel: those that run and were asked to stop
	More       bool `json:"more"`       // the limit was reached: ask again for the rest
}

// Cancel ends a task for good. One that runs is asked to stop: then cancelling is true,
// and Wait tells how it ends, which is cancelled unless its action succeeds first. A task
// that is done or failed is refused with conflict, and one that is cancelled already is
// no error, so a Cancel is sent again when its connection ends.
func (c *Client) Cancel(ctx context.Context, id string) (cancelling bool, err error) {
	var answer struct{ Status string }
	err = c.tell(ctx, c.changing(c.about(wire.OpCancel, id), true), &answer)
	return answer.Status == wire.StatusCancelling, err
}

// Retry queues a finished task once more and returns its generation, the number of retries
// by hand. A scheduled task is queued at once, in its generation. A task that is queued or
// runs is refused with conflict, and so is a cancelled one whose key another task has taken. Since the task may have ended again
// by then, a Retry is sent twice only if the Client's Config.Resend says so: otherwise
// one whose connection ended after it was written has the code unknown_outcome.
func (c *Client) Retry(ctx context.Context, id string) (generation int, err error) {
	var answer struct{ Generation int }
	err = c.tell(ctx, c.changing(c.about(wire.OpRetry, id), c.cfg.Resend), &answer)
	return answer.Generation, err
}

// CancelWhere cancels the tasks that match a filter, at most limit of them (10,000 are
// allowed; 0: 1000). The filter cannot be empty. When the connection ends after it was
// written, the outcome is unknown, and it does no harm to ask again.
func (c *Client) CancelWhere(ctx context.Context, filter Filter, limit int) (Bulk, error) {
	return c.where(ctx, wire.OpCancel, filter, limit)
}

// RetryWhere retries the finished tasks that match a filter, at most limit of them
// (10,000 are allowed; 0: 1000). The filter cannot be empty. When the connection ends
// after it was written, the outcome is unknown.
func (c *Client) RetryWhere(ctx context.Context, filter Filter, limit int) (Bulk, error) {
	return c.where(ctx, wire.OpRetry, filter, limit)
}

func (c *Client) where(ctx context.Context, op wire.Op, filter Filter, limit int) (Bulk, error) {
	w := c.changing(c.asking(op), c.cfg.Resend)
	w.object("filter", func() { filter.write(&w.call) })
	w.number("limit", limit)
	var bulk Bulk
	err := c.tell(ctx, w, &bulk)
	return bulk, err
}

// changing makes a call one that changes something, and may be sent again although its
// outcome is unknown only if repeat is true.
func (c *Client) changing(w *waiter, repeat bool) *waiter {
	w.policy = policy{repeat: repeat}
	return w
}

// List gives a page of the tasks that match a query, the newest first.
func (c *Client) List(ctx context.Context, q Query) (Page, error) {
	w := c.asking(wire.OpList)
	q.Filter.write(&w.call)
	w.time("since", q.Since)
	w.time("until", q.Until)
	w.number("limit", q.Limit)
	w.text("cursor", q.Cursor)
	var page Page
	err := c.tell(ctx, w, &page)
	return page, err
}

func (f *Filter) write(k *call) {
	k.text("queue", f.Queue)
	k.text("action", f.Action)
	k.text("status", string(f.State))
	k.labels("meta", f.Meta)
}

// Queue says how a queue stands.
type Queue struct {
	Queue         string  `json:"queue"`
	Paused        bool    `json:"paused"`
	Scheduled     int64   `json:"scheduled"`
	Queued        int64   `json:"queued"`
	Running       int64   `json:"running"`
	Failed        int64   `json:"failed"`
	OldestSeconds float64 `json:"oldest_s"` // how long its oldest queued task has waited
	RateIn        float64 `json:"rate_in"`  // tasks a second, of late
	RateOut       float64 `json:"rate_out"`
	Unserved      bool    `json:"unserved"` // no live node can run some of its scheduled and queued tasks
}

// Queues gives all queues.
func (c *Client) Queues(ctx context.Context) ([]Queue, error) {
	var answer struct{ Queues []Queue }
	err := c.tell(ctx, c.asking(wire.OpQueues), &answer)
	return answer.Queues, err
}

// Pause keeps a queue's tasks from being started; those that run go on. A queue that is
// paused already is no error, so a Pause is sent again when its connection ends.
func (c *Client) Pause(ctx context.Context, queue string) error {
	return c.door(ctx, wire.OpPause, queue)
}

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context, queue string) error {
	return c.door(ctx, wire.OpResume, queue)
}

func (c *Client) door(ctx context.Context, op wire.Op, queue string) error {
	w := c.changing(c.asking(op), true)
	w.text("queue", queue)
	return c.tell(ctx, w, &struct{}{})
}
