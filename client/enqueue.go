package client

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// EnqueueOptions are the options of a durable task. A zero field means the server's
// default, which its comment names last, unless the server was started with other defaults.
// task.Zero asks for a span of 0.
type EnqueueOptions struct {
	// Queue is the name of its queue: a-z, 0-9, '.', '_' and '-', at most 64 bytes; the queue
	// "default".
	Queue string
	// Priority is high, normal or low; normal.
	Priority string
	// Delay is the time until it may start, and RunAt the time at which it may start. At
	// most one of them may be set; at once.
	Delay time.Duration
	RunAt time.Time
	// Expires is the time after which it fails if it has not started; never.
	Expires time.Duration
	// Timeout limits one attempt, at most a day; a minute.
	Timeout time.Duration
	// MaxAttempts is how many attempts may fail, at most 1000; 12.
	MaxAttempts int
	// Backoff is the pause before the second attempt; 5 s. Each further pause is three times as
	// long, with a random deviation of up to a fifth, and at most BackoffMax; an hour.
	Backoff, BackoffMax time.Duration
	// Key identifies the task in its queue while the task is kept. Another Enqueue with
	// the same key, action and payload returns this task; one with the same key and a
	// different action or payload is refused with key_conflict. With a key, sending twice
	// does no harm; no key.
	Key string
	// Keep is how long the task and its result are kept when it is done or cancelled; a day.
	Keep time.Duration
	// KeepFailed is how long the task is kept when it has failed; a week.
	KeepFailed time.Duration
	// Meta are labels that List and other calls can filter by; no labels.
	Meta map[string]string
	// Resend allows a task without a key to be sent again if its connection ended after
	// it was written. Set it only if running the task twice does no harm; false.
	Resend bool
}

// EnqueueRequest is one durable task.
type EnqueueRequest struct {
	// Action is the name of the action, 1 to 128 bytes. The server does not have to have it.
	Action string
	// Payload is the payload as JSON; nil is null. A stream copies it before the yield of
	// its tasks blocks.
	Payload json.RawMessage
	EnqueueOptions
}

// Accepted is the reply to an Enqueue: the task is on stable storage.
type Accepted struct {
	Task  string     `json:"task"`
	State task.State `json:"status"`
	// RunAt is when a scheduled task may start.
	RunAt time.Time `json:"run_at,omitzero"`
	// Duplicate means that an earlier Enqueue with the key created this task. It may be in
	// any state.
	Duplicate bool `json:"duplicate,omitempty"`
	// Warning is a text for people, for example that no live node has the action.
	Warning string `json:"warning,omitempty"`
}

// Enqueue stores a task that runs later. Once it returns without an error, no crash loses
// the task. The payload is anything that encoding/json can marshal; nil is null, and a
// json.RawMessage is sent as it is.
//
// The error is a *task.Error if the task was refused. If the connection or ctx ended after
// the task was written, it may or may not have been accepted. With a Key, or with
// EnqueueOptions.Resend or Config.Resend, it is then sent again, at most three times.
// Otherwise, and if ctx has ended, the error's code is unknown_outcome. A server that does
// not know whether its own commit succeeded returns the same code and the task's id: call
// Get to find out whether the task was accepted.
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

// Acceptance is the outcome of one task of StreamEnqueue: what Enqueue would have
// returned.
type Acceptance struct {
	Accepted Accepted
	Err      error
}

// StreamEnqueue stores tasks, each under a key of the caller's choice, and yields their
// outcomes as they arrive, which is not the order of the tasks. Tasks that are in flight
// together share the server's commits, so this is the fast way to enqueue many. The promises
// are those of Stream: constant memory, one outcome per task, and the same behaviour when ctx
// ends or the loop is left. Tasks that were written by then may have been accepted.
func StreamEnqueue[K any](ctx context.Context, c *Client, tasks iter.Seq2[K, EnqueueRequest]) iter.Seq2[K, Acceptance] {
	return func(yield func(K, Acceptance) bool) {
		t := streamKind[EnqueueRequest, Accepted]{c.enqueueLine, func(k *call) (Accepted, error) { return accepted(k.outcome()) }}
		runStream(ctx, c, tasks, t, func(key K, a Accepted, err error) bool { return yield(key, Acceptance{a, err}) })
	}
}

// accepted parses the line of an accepted task.
func accepted(raw []byte, err error) (Accepted, error) {
	var a Accepted
	if err == nil {
		err = parseReply(raw, &a)
	}
	return a, err
}

// enqueueLine writes the line of a task.
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
	k.seconds("backoff", r.Backoff)
	k.seconds("backoff_max", r.BackoffMax)
	k.text("key", r.Key)
	k.seconds("keep", r.Keep)
	k.seconds("keep_failed", r.KeepFailed)
	k.labels("meta", r.Meta)
	if k.shape == shapeAccept {
		k.setTrue("wait")
	}
	if err := k.payload(r.Payload); err != nil {
		return err
	}
	return c.endCheckedLine(k)
}
