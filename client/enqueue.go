package client

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// EnqueueOptions are what a durable task may ask for. A zero field leaves the server's
// default, which is named here.
type EnqueueOptions struct {
	// Queue is the name of its queue, a-z, 0-9, '.', '_' and '-', at most 64 bytes; default.
	Queue string
	// Priority is high, normal or low; normal.
	Priority string
	// Delay and RunAt say when it may start, as a span from now or as a time; only one
	// can be given. At once.
	Delay time.Duration
	RunAt time.Time
	// Expires is after which time it fails when it has not been started; never.
	Expires time.Duration
	// Timeout bounds one attempt, at most an hour; a minute.
	Timeout time.Duration
	// MaxAttempts is how many attempts may fail, at most 1000; 5.
	MaxAttempts int
	// Key names the task in its queue: while it is kept, another Enqueue with the key,
	// action and payload is answered with this task, and one with the key alone is
	// refused with key_conflict. With a key it does no harm to send twice. None.
	Key string
	// Keep is how long the finished task and its result are kept; a day.
	Keep time.Duration
	// Meta are labels, kept with the task and searchable; none.
	Meta map[string]string
	// Resend allows the task to be sent again, without a key, when its connection ended
	// after it was written: for tasks of which two are no worse than one.
	Resend bool
}

// EnqueueRequest is one task to be accepted durably.
type EnqueueRequest struct {
	// Action is the name of the action, 1 to 128 bytes. The server need not know it.
	Action string
	// Payload is the payload as JSON; nil is null. It is copied before the yield of a
	// stream's tasks waits for anything.
	Payload json.RawMessage
	EnqueueOptions
}

// Accepted says that a task is on stable storage, and where it stands.
type Accepted struct {
	Task  string     `json:"task"`
	State task.State `json:"status"`
	// RunAt is when a scheduled task may start.
	RunAt time.Time `json:"run_at,omitzero"`
	// Duplicate says that the key had this task already; State is then any.
	Duplicate bool `json:"duplicate,omitempty"`
	// Warning is for people: no node that is alive has the action, say.
	Warning string `json:"warning,omitempty"`
}

// Enqueue has a task accepted durably, to be worked later: once it returns without an
// error, the task is lost by no crash. The payload is anything that encoding/json can
// marshal; nil is null, and a json.RawMessage goes as it is.
//
// The error is a *task.Error when the task was refused. An Enqueue whose connection
// ended, or whose ctx did, after it was written may or may not have been accepted:
// with a Key, or when the caller asked for that (EnqueueOptions.Resend, Config.Resend),
// it is sent again, at most three times; otherwise, and when ctx has ended, the error's
// code is unknown_outcome. A server that could not learn what became of its own commit
// answers with the same code and with the task's id: Get tells whether it was accepted.
func (c *Client) Enqueue(ctx context.Context, action string, payload any, o EnqueueOptions) (Accepted, error) {
	raw, err := marshal(nil, payload)
	if err != nil {
		return Accepted{}, err
	}
	w := c.waiter()
	if err := c.enqueueLine(&w.call, &EnqueueRequest{action, raw, o}); err != nil {
		return Accepted{}, err
	}
	return accepted(c.exchange(ctx, w))
}

// Acceptance is what became of one task of StreamEnqueue: what Enqueue would have
// returned.
type Acceptance struct {
	Accepted Accepted
	Err      error
}

// StreamEnqueue has tasks accepted durably, each under a key of the caller's choice, and
// yields what became of them as it comes, which is not the order of the tasks. Tasks that
// are on their way together share the server's commits, so this is how many are enqueued
// fast. Everything that Stream promises holds: constant memory, one outcome a task, and
// what happens when ctx ends or the loop is left. Those of the tasks that were written by
// then may have been accepted.
func StreamEnqueue[K any](ctx context.Context, c *Client, tasks iter.Seq2[K, EnqueueRequest]) iter.Seq2[K, Acceptance] {
	return func(yield func(K, Acceptance) bool) {
		t := trade[EnqueueRequest, Accepted]{c.enqueueLine, func(k *call) (Accepted, error) { return accepted(k.outcome()) }}
		runStream(ctx, c, tasks, t, func(key K, a Accepted, err error) bool { return yield(key, Acceptance{a, err}) })
	}
}

// accepted reads the line that says so.
func accepted(raw []byte, err error) (Accepted, error) {
	var a Accepted
	if err == nil {
		err = understand(raw, &a)
	}
	return a, err
}

// enqueueLine renders the line of a task.
func (c *Client) enqueueLine(k *call, r *EnqueueRequest) error {
	if k.shape != shapeAccept {
		k.shape = shapeLine
	}
	k.repeat = r.Key != "" || r.Resend || c.cfg.Resend
	k.begin(wire.OpEnqueue)
	k.text("action", r.Action)
	k.text("queue", r.Queue)
	k.text("priority", r.Priority)
	k.seconds("delay", r.Delay)
	k.time("run_at", r.RunAt)
	k.seconds("expires", r.Expires)
	k.seconds("timeout", r.Timeout)
	k.number("max_attempts", r.MaxAttempts)
	k.text("key", r.Key)
	k.seconds("keep", r.Keep)
	k.labels("meta", r.Meta)
	if k.shape == shapeAccept {
		k.setTrue("wait")
	}
	if err := k.payload(r.Payload); err != nil {
		return err
	}
	return c.endCheckedLine(k)
}
