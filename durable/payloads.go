package durable

import (
	"context"
	"io"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

const (
	// collectEvery is how often bodies without a row are looked for.
	collectEvery = time.Hour
	// orphanGrace is how old a body without a row must be to be deleted: an upload may wait
	// so long for the task that it is the payload of.
	orphanGrace = 24 * time.Hour
)

// Upload stores a payload for a task that is accepted later, within a day: its Request then
// has the Upload. Nothing is held in memory. Refusals: payload_too_large, unavailable.
func (e *Engine) Upload(ctx context.Context, body io.Reader) (Upload, *task.Error) {
	if refusal := e.bodies.Check(); refusal != nil {
		return Upload{}, refusal
	}
	id, err := e.ids.next(e.storeNow())
	if err != nil {
		return Upload{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	kept, refusal := e.bodies.PutPayload(ctx, id, body)
	return Upload{Task: id, Body: kept}, refusal
}

// OpenPayload opens a task's payload as a stream, wherever it is. The caller closes it.
func (e *Engine) OpenPayload(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.get(ctx, id, true)
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.bodies.Open(ctx, blob.Payload(id), t.Payload)
}

// OpenResult opens the result of a done task as a stream, likewise; another task has none, which
// is a conflict with its state.
func (e *Engine) OpenResult(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.getDone(ctx, id)
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.bodies.Open(ctx, blob.Result(id, t.Fence), t.Result)
}

// getDone reads a task that must be done.
func (e *Engine) getDone(ctx context.Context, id string) (task.Task, *task.Error) {
	t, refusal := e.get(ctx, id, false)
	if refusal == nil && t.State != task.Done {
		refusal = task.Refuse(task.Conflict, "task %s is %s and has no result", id, t.State)
		refusal.Task, refusal.State = id, string(t.State)
	}
	return t, refusal
}

// Show reads the payload and the result of a task that are in blob storage and not larger
// than most, so that they can be shown with it; the payload only if the task has one, as Get
// gives it when it is asked for. What cannot be read stays as it is.
func (e *Engine) Show(ctx context.Context, t *task.Task, most int64) {
	// What is asked for is due although its reader may have closed its side.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	e.bodies.Show(ctx, blob.Payload(t.ID), &t.Payload, most)
	e.bodies.Show(ctx, blob.Result(t.ID, t.Fence), &t.Result, most)
}

// load reads the payload of an attempt and launches it; it runs on a goroutine of its own.
func (e *Engine) load(ctx context.Context, h *attempt) {
	payload, err := e.bodies.ReadPayload(ctx, &h.Task)
	fail.Point("run.loaded")
	switch {
	case ctx.Err() != nil:
		e.abandon(h)
	case err != nil:
		e.ended(h, executor.Ending{Outcome: executor.Failed, Err: err})
	default:
		e.launch(ctx, h, payload)
	}
}

// streams tells whether the task's action takes its payload as a stream from blob storage.
func (e *Engine) streams(t *task.Task) bool {
	return e.config.Blobs != nil && e.config.Streams != nil && e.config.Streams(t.Action)
}

// saveResult moves a result that is too large for the row into blob storage.
func (e *Engine) saveResult(t *task.Task, result []byte) (task.Body, error) {
	if len(result) <= task.InlineBytes {
		return task.Body{Inline: result}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return e.bodies.PutResult(ctx, t, result)
}

// deleteBodies deletes the bodies of tasks that are deleted.
func (e *Engine) deleteBodies(ctx context.Context, tasks []task.Task) {
	if err := e.bodies.Delete(ctx, tasks); err != nil {
		e.config.Logger.Warn("bodies of deleted tasks are not deleted yet", "tasks", len(tasks), "error", err)
	}
}

// collect deletes bodies without a row, once in a while, until ctx ends.
func (e *Engine) collect(ctx context.Context) {
	for e.config.Blobs != nil && pause(ctx, collectEvery) {
		if !e.hub.tends(e) {
			continue
		}
		before := e.config.Now().Add(-orphanGrace)
		if err := collectOrphans(ctx, e.config.Blobs, e.config.Store.Get, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("orphans of blob storage are not collected", "error", err)
		}
		if _, err := e.config.Blobs.Sweep(ctx, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("unfinished bodies are not swept away", "error", err)
		}
	}
}
