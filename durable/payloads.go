package durable

import (
	"context"
	"io"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

const (
	// collectEvery is how often orphans are searched for.
	collectEvery = time.Hour
	// orphanGrace is how old an orphan must be before it is deleted. An upload may wait for its task for as long.
	orphanGrace = 24 * time.Hour
)

// Upload stores a payload for a task that is accepted within a day and has the Upload in its Request. The payload
// is not held in memory. Refusals: payload_too_large, unavailable.
func (e *Engine) Upload(ctx context.Context, body io.Reader) (Upload, *task.Error) {
	if refusal := e.bodies.Check(); refusal != nil {
		return Upload{}, refusal
	}
	id, err := e.acceptor.ids.next(e.storeNow())
	if err != nil {
		return Upload{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	kept, refusal := e.bodies.PutPayload(ctx, id, body)
	return Upload{Task: id, Body: kept}, refusal
}

// OpenPayload opens the payload of a task as a stream, wherever it is stored. The caller closes it.
func (e *Engine) OpenPayload(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.getWith(ctx, id, true)
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.bodies.Open(ctx, blob.Payload(id), t.Payload)
}

// OpenResult opens the result of a done task as a stream, wherever it is stored. The caller closes it. For any
// other task the refusal is conflict.
func (e *Engine) OpenResult(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.getDone(ctx, id)
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.bodies.Open(ctx, blob.Result(id, t.Fence), t.Result)
}

// getDone reads a task that must be done.
func (e *Engine) getDone(ctx context.Context, id string) (task.Task, *task.Error) {
	t, refusal := e.getWith(ctx, id, false)
	if refusal == nil && t.State != task.Done {
		refusal = task.Refuse(task.Conflict, "task %s is %s and has no result", id, t.State)
		refusal.Task, refusal.State = id, string(t.State)
	}
	return t, refusal
}

// Show reads the payload and the result of a task into memory if they are in blob storage and not larger than most.
// It reads the payload only if t includes one. It leaves a body that cannot be read unchanged.
func (e *Engine) Show(ctx context.Context, t *task.Task, most int64) {
	// A client that has closed its writing side still gets its answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	e.bodies.Show(ctx, blob.Payload(t.ID), &t.Payload, most)
	e.bodies.Show(ctx, blob.Result(t.ID, t.Fence), &t.Result, most)
}
