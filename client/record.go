package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// waitTurn is how long one request of Wait lasts: a wait whose caller gave up costs its
// server no longer than this.
const waitTurn = time.Minute

// Record is all that is known of a durable task. It marshals as it stands on the wire.
type Record struct {
	Task       string            `json:"task"`
	State      task.State        `json:"status"`
	Queue      string            `json:"queue"`
	Action     string            `json:"action"`
	Attempt    int               `json:"attempt"`    // number of starts
	Generation int               `json:"generation"` // number of retries by hand
	Priority   string            `json:"priority"`
	CreatedAt  time.Time         `json:"created_at"`
	RunAt      time.Time         `json:"run_at,omitzero"`
	StartedAt  time.Time         `json:"started_at,omitzero"` // of the latest attempt
	FinishedAt time.Time         `json:"finished_at,omitzero"`
	Node       string            `json:"node,omitempty"` // that has it, or had it last
	Progress   *Progress         `json:"progress,omitempty"`
	Cancelling bool              `json:"cancelling,omitempty"` // it runs, and was asked to stop
	Key        string            `json:"key,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Warning    string            `json:"warning,omitempty"`
	Payload    json.RawMessage   `json:"payload,omitempty"` // of GetWithPayload only
	Result     Result            `json:"result,omitzero"`   // of a done task
	// Error and Code are those of a failed task, or, of a task that waits for another attempt, those of the last one that failed.
	Error string    `json:"error,omitempty"`
	Code  task.Code `json:"code,omitempty"`
}

// Progress is what an action last said about itself.
type Progress struct {
	Percent float64 `json:"percent"` // 0 to 100
	Message string  `json:"message,omitempty"`
}

// Final is how a task ended.
type Final struct {
	Task      string     `json:"task"`
	State     task.State `json:"status"`
	Result    Result     `json:"result,omitzero"` // of a done task
	Error     string     `json:"error,omitempty"` // of a failed task
	Code      task.Code  `json:"code,omitempty"`  // of a failed task
	Attempt   int        `json:"attempt"`
	Duplicate bool       `json:"duplicate,omitempty"` // the key had this task already
}

// Get gives a task's record. A task that is not known is refused with not_found. It
// changes nothing, so it is sent again when its connection ends, ten times in a row.
func (c *Client) Get(ctx context.Context, id string) (Record, error) {
	return c.record(ctx, c.about(wire.OpGet, id))
}

// GetWithPayload is Get, and the Record has the payload.
func (c *Client) GetWithPayload(ctx context.Context, id string) (Record, error) {
	w := c.about(wire.OpGet, id)
	w.setTrue("payload")
	return c.record(ctx, w)
}

// Wait gives a task's record once it is finished. It asks again, on another connection,
// when its node drains or its connection ends, and goes on for as long as ctx lasts. It
// is not counted among the unanswered requests of a connection, so thousands of waits
// hold up nothing else.
func (c *Client) Wait(ctx context.Context, id string) (Record, error) {
	for {
		turn := waitTurn
		if deadline, ok := ctx.Deadline(); ok {
			turn = min(turn, max(time.Until(deadline), time.Millisecond))
		}
		w := c.about(wire.OpWait, id)
		w.shape = shapeWait
		w.seconds("timeout", turn)
		record, err := c.record(ctx, w)
		if err != nil || record.State.Final() {
			return record, err
		}
	}
}

// about begins a line that asks about a task and changes nothing.
func (c *Client) about(op wire.Op, id string) *waiter {
	w := c.asking(op)
	w.shape = shapeLine
	w.text("task", id)
	return w
}

// asking begins a line that changes nothing and is answered with a result object.
func (c *Client) asking(op wire.Op) *waiter {
	w := c.waiter()
	w.reads = true
	w.begin(op)
	return w
}

// record finishes the line, sends it and reads a record.
func (c *Client) record(ctx context.Context, w *waiter) (Record, error) {
	var record Record
	err := c.tell(ctx, w, &record)
	return record, err
}

// tell finishes the line, sends it and reads the reply into an answer.
func (c *Client) tell(ctx context.Context, w *waiter, answer any) error {
	if err := c.endCheckedLine(&w.call); err != nil {
		return err
	}
	raw, err := c.exchange(ctx, w)
	if err != nil {
		return err
	}
	return understand(raw, answer)
}

// understand reads a reply.
func understand(raw []byte, answer any) error {
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("the server sent what cannot be understood: %w", err)
	}
	return nil
}
