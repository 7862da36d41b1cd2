package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// waitTurn is the timeout of one request of Wait. A server keeps an abandoned wait no longer
// than this.
const waitTurn = time.Minute

// Record describes a durable task. It marshals to the JSON of the protocol.
type Record struct {
	Task           string            `json:"task"`
	State          task.State        `json:"status"`
	Queue          string            `json:"queue"`
	Action         string            `json:"action"`
	Attempt        int               `json:"attempt"`      // number of starts
	MaxAttempts    int               `json:"max_attempts"` // number of attempts that may fail
	TimeoutSeconds float64           `json:"timeout"`      // limit of one attempt
	Generation     int               `json:"generation"`   // number of manual retries
	Priority       string            `json:"priority"`
	CreatedAt      time.Time         `json:"created_at"`
	RunAt          time.Time         `json:"run_at,omitzero"`
	StartedAt      time.Time         `json:"started_at,omitzero"` // of the latest attempt
	FinishedAt     time.Time         `json:"finished_at,omitzero"`
	Node           string            `json:"node,omitempty"`   // the node that runs it or ran it last
	Worker         string            `json:"worker,omitempty"` // the worker that ran it for the node; "" if the node ran it itself
	Owner          string            `json:"owner,omitempty"`  // who enqueued it, as the server has authenticated the client; "" without a token
	Progress       *Progress         `json:"progress,omitempty"`
	Cancelling     bool              `json:"cancelling,omitempty"` // it was asked to stop and is still running
	Key            string            `json:"key,omitempty"`
	Meta           map[string]string `json:"meta,omitempty"`
	Warning        string            `json:"warning,omitempty"`
	Payload        json.RawMessage   `json:"payload,omitempty"` // only from GetWithPayload
	Result         Result            `json:"result,omitzero"`   // of a done task
	// Error and Code belong to a failed task, or to the last failed attempt of a task that
	// waits for another one.
	Error string    `json:"error,omitempty"`
	Code  task.Code `json:"code,omitempty"`
}

// Progress is the latest progress that an action reported.
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
	Duplicate bool       `json:"duplicate,omitempty"` // an earlier Enqueue with the key created it
}

// Get returns a task's record. An unknown task is refused with not_found. Get changes
// nothing, so it is sent again if its connection ends, up to ten times in a row.
func (c *Client) Get(ctx context.Context, id string) (Record, error) {
	return c.record(ctx, c.newTaskRead(wire.OpGet, id))
}

// GetWithPayload is Get with the payload in the Record.
func (c *Client) GetWithPayload(ctx context.Context, id string) (Record, error) {
	w := c.newTaskRead(wire.OpGet, id)
	w.setTrue("payload")
	return c.record(ctx, w)
}

// Wait waits until a task is finished and returns its record. If the node drains or the
// connection ends, Wait continues on another connection, until ctx ends. Waits do not count
// as unanswered requests of a connection, so thousands of them delay no other request.
func (c *Client) Wait(ctx context.Context, id string) (Record, error) {
	for {
		turn := waitTurn
		if deadline, ok := ctx.Deadline(); ok {
			turn = min(turn, max(time.Until(deadline), time.Millisecond))
		}
		w := c.newTaskRead(wire.OpWait, id)
		w.shape = shapeWait
		w.seconds("timeout", turn)
		record, err := c.record(ctx, w)
		if err != nil || record.State.Final() {
			return record, err
		}
	}
}

// newTaskRead begins the line of a request that reads a task.
func (c *Client) newTaskRead(op wire.Op, id string) *waiter {
	w := c.newRead(op)
	w.shape = shapeLine
	w.text("task", id)
	return w
}

// newRead begins the line of a request that changes nothing. Its reply is a result object.
func (c *Client) newRead(op wire.Op) *waiter {
	w := c.waiter()
	w.reads = true
	w.begin(op)
	return w
}

// record ends the line, sends it and parses a record.
func (c *Client) record(ctx context.Context, w *waiter) (Record, error) {
	var record Record
	err := c.send(ctx, w, &record)
	return record, err
}

// send ends the line, sends it and parses the reply into answer.
func (c *Client) send(ctx context.Context, w *waiter, answer any) error {
	if err := c.endCheckedLine(&w.call); err != nil {
		return err
	}
	raw, err := c.exchange(ctx, w)
	if err != nil {
		return err
	}
	return parseReply(raw, answer)
}

// parseReply parses a reply into answer.
func parseReply(raw []byte, answer any) error {
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("the server sent an invalid reply: %w", err)
	}
	return nil
}
