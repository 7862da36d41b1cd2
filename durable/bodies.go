package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable/orphan"
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

// bodyError is a body that could not be read or written.
type bodyError struct {
	error
	final bool // trying again does not help
}

// Upload stores a payload for a task that is accepted later, within a day: its Request then
// has the Upload. Nothing is held in memory. Refusals: payload_too_large, unavailable.
func (e *Engine) Upload(ctx context.Context, body io.Reader) (Upload, *task.Error) {
	if e.config.Blobs == nil {
		return Upload{}, refuseNoBlobs()
	}
	id, err := e.ids.next(e.config.Now())
	if err != nil {
		return Upload{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	kept, refusal := e.putPayload(ctx, id, body)
	return Upload{Task: id, Body: kept}, refusal
}

// checkUpload refuses an upload that is not there, since its task could never run.
func (e *Engine) checkUpload(ctx context.Context, u *Upload) *task.Error {
	if e.config.Blobs == nil {
		return refuseNoBlobs()
	}
	stream, err := e.config.Blobs.Get(ctx, blob.Payload(u.Task), blob.Sum{Size: u.Body.Size, SHA256: u.Body.SHA256})
	switch {
	case err == nil:
		_ = stream.Close()
		return nil
	case errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil:
		return task.RefuseField(task.Unavailable, "payload_blob", "the blob cannot be read: %v", err)
	}
	return task.RefuseField(task.InvalidRequest, "payload_blob", "there is no such blob: %v; blobs wait a day for their task", err)
}

func refuseNoBlobs() *task.Error {
	return task.RefuseField(task.Unavailable, "blobs", "%s; start it with --blobs", errNoBlobs)
}

// OpenPayload opens a task's payload as a stream, wherever it is. The caller closes it.
func (e *Engine) OpenPayload(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.Get(ctx, id, true)
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.open(ctx, blob.Payload(id), t.Payload)
}

// OpenResult opens the result of a done task as a stream, likewise; another task has none, which
// is a conflict with its state.
func (e *Engine) OpenResult(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := e.Get(ctx, id, false)
	if refusal == nil && t.State != task.Done {
		refusal = task.Refuse(task.Conflict, "task %s is %s and has no result", id, t.State)
		refusal.Task, refusal.State = id, string(t.State)
	}
	if refusal != nil {
		return nil, 0, refusal
	}
	return e.open(ctx, blob.Result(id, t.Attempt), t.Result)
}

// open opens a body of which the row is known.
func (e *Engine) open(ctx context.Context, key blob.Key, body task.Body) (io.ReadCloser, int64, *task.Error) {
	if !body.IsBlob() {
		return io.NopCloser(bytes.NewReader(body.Inline)), int64(len(body.Inline)), nil
	}
	if e.config.Blobs == nil {
		return nil, 0, refuseNoBlobs()
	}
	stream, err := e.config.Blobs.Get(ctx, key, blob.Sum{Size: body.Size, SHA256: body.SHA256})
	if err != nil {
		return nil, 0, task.Refuse(task.Unavailable, "the body %s cannot be read: %v", key, err)
	}
	return stream, body.Size, nil
}

// putPayload stores a payload that is too large for the row.
func (e *Engine) putPayload(ctx context.Context, id string, body io.Reader) (task.Body, *task.Error) {
	if e.config.Blobs == nil {
		return task.Body{}, refusePayload(task.InlineBytes)
	}
	err := fail.Error("blob.put")
	var sum blob.Sum
	if err == nil {
		sum, err = e.config.Blobs.Put(ctx, blob.Payload(id), body, task.BlobBytes)
	}
	switch {
	case errors.Is(err, blob.ErrTooLarge):
		return task.Body{}, refusePayload(task.BlobBytes)
	case err != nil:
		return task.Body{}, task.Refuse(task.Unavailable, "the payload was not stored: %v", err)
	}
	fail.Point("payload.stored")
	return task.Body{Size: sum.Size, SHA256: sum.SHA256}, nil
}

func refusePayload(most int) *task.Error {
	refusal := task.RefuseField(task.PayloadTooLarge, "payload", "the payload has more than the %d bytes that are kept", most)
	refusal.Limit = fmt.Sprintf("%d bytes", most)
	return refusal
}

// dropPayload deletes the payload of a task that was not stored after all. If that fails, it
// is an orphan.
func (e *Engine) dropPayload(ctx context.Context, t *task.Task) {
	if t.Payload.IsBlob() {
		fail.Point("accept.unused")
		_ = e.config.Blobs.Delete(context.WithoutCancel(ctx), []blob.Key{blob.Payload(t.ID)})
	}
}

// load reads the payload of an attempt and launches it; it runs on a goroutine of its own.
func (e *Engine) load(ctx context.Context, h *held) {
	payload, err := e.readPayload(ctx, &h.task)
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

func (e *Engine) readPayload(ctx context.Context, t *task.Task) ([]byte, error) {
	payload, err := e.readBody(ctx, blob.Payload(t.ID), t.Payload)
	if err != nil {
		return nil, bodyErrorOf("payload", err)
	}
	return payload, nil
}

var errNoBlobs = errors.New("this node has no blob storage")

// streams tells whether the task's action takes its payload as a stream from blob storage.
func (e *Engine) streams(t *task.Task) bool {
	return e.config.Blobs != nil && e.config.Streams != nil && e.config.Streams(t.Action)
}

// openPayload opens the payload of an attempt for its action.
func (e *Engine) openPayload(ctx context.Context, t *task.Task) (io.ReadCloser, error) {
	return e.config.Blobs.Get(ctx, blob.Payload(t.ID), blob.Sum{Size: t.Payload.Size, SHA256: t.Payload.SHA256})
}

// readBody reads a body that is in blob storage whole.
func (e *Engine) readBody(ctx context.Context, key blob.Key, body task.Body) ([]byte, error) {
	if e.config.Blobs == nil {
		return nil, errNoBlobs
	}
	stream, err := e.config.Blobs.Get(ctx, key, blob.Sum{Size: body.Size, SHA256: body.SHA256})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	text := make([]byte, body.Size)
	_, err = io.ReadFull(stream, text)
	return text, err
}

func bodyErrorOf(what string, err error) error {
	final := errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrCorrupt) || errors.Is(err, blob.ErrExists)
	return &bodyError{fmt.Errorf("the %s: %w", what, err), final}
}

// saveResult moves a result that is too large for the row into blob storage.
func (e *Engine) saveResult(t *task.Task, result []byte) (task.Body, error) {
	if len(result) <= task.InlineBytes {
		return task.Body{Inline: result}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	err := fail.Error("result.put")
	var sum blob.Sum
	if err == nil {
		sum, err = e.config.Blobs.Put(ctx, blob.Result(t.ID, t.Attempt), bytes.NewReader(result), task.BlobBytes)
	}
	if err != nil {
		return task.Body{}, bodyErrorOf("result", err)
	}
	fail.Point("result.stored")
	return task.Body{Size: sum.Size, SHA256: sum.SHA256}, nil
}

// resultMost is how large a result may be.
func (e *Engine) resultMost() int {
	if e.config.Blobs == nil {
		return task.InlineBytes
	}
	return task.BlobBytes
}

// deleteBodies deletes the bodies of tasks that are deleted; what fails is an orphan.
func (e *Engine) deleteBodies(ctx context.Context, tasks []task.Task) {
	var keys []blob.Key
	for i := range tasks {
		t := &tasks[i]
		if t.Payload.IsBlob() {
			keys = append(keys, blob.Payload(t.ID))
		}
		if t.Result.IsBlob() {
			keys = append(keys, blob.Result(t.ID, t.Attempt))
		}
	}
	if len(keys) == 0 || e.config.Blobs == nil {
		return
	}
	fail.Point("discard.committed")
	if err := e.config.Blobs.Delete(ctx, keys); err != nil {
		e.config.Logger.Warn("bodies of deleted tasks are not deleted yet", "bodies", len(keys), "error", err)
	}
}

// collect deletes bodies without a row, once in a while, until ctx ends.
func (e *Engine) collect(ctx context.Context) {
	for e.config.Blobs != nil && pause(ctx, collectEvery) {
		if !e.hub.tends(e) {
			continue
		}
		before := e.config.Now().Add(-orphanGrace)
		if err := orphan.Collect(ctx, e.config.Blobs, e.config.Store.Get, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("orphans of blob storage are not collected", "error", err)
		}
		if _, err := e.config.Blobs.Sweep(ctx, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("unfinished bodies are not swept away", "error", err)
		}
	}
}
