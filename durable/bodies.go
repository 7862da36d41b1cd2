package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable/hands"
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

// Upload is a payload that was stored before its task was accepted.
type Upload struct {
	Task string // the id that the task will have
	Body task.Body
}

// bodyError is a body that could not be read or written.
type bodyError struct {
	error
	final bool // trying again does not help
}

// Upload stores a payload for a task that is accepted later, within a day: its Request then
// has the Upload. Nothing is held in memory. Refusals: payload_too_large, unavailable.
func (e *Engine) Upload(ctx context.Context, body io.Reader) (Upload, *task.Error) {
	id, err := e.ids.next(e.config.Now())
	if err != nil {
		return Upload{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	kept, refusal := e.putPayload(ctx, id, body)
	return Upload{Task: id, Body: kept}, refusal
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
		return nil, 0, task.Refuse(task.Unavailable, "this node has no blob storage")
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
func (e *Engine) load(ctx context.Context, h *hands.Held) {
	payload, err := e.readPayload(ctx, &h.Task)
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
	if e.config.Blobs == nil {
		return nil, &bodyError{error: errors.New("this node has no blob storage")}
	}
	stream, err := e.config.Blobs.Get(ctx, blob.Payload(t.ID), blob.Sum{Size: t.Payload.Size, SHA256: t.Payload.SHA256})
	if err != nil {
		return nil, bodyErrorOf("payload", err)
	}
	defer stream.Close()
	payload := make([]byte, t.Payload.Size)
	if _, err := io.ReadFull(stream, payload); err != nil {
		return nil, bodyErrorOf("payload", err)
	}
	return payload, nil
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
		if err := e.collectOrphans(ctx, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("orphans of blob storage are not collected", "error", err)
		}
		if _, err := e.config.Blobs.Sweep(ctx, before); err != nil && ctx.Err() == nil {
			e.config.Logger.Warn("unfinished bodies are not swept away", "error", err)
		}
	}
}

// collectOrphans asks the store about old bodies, page by page.
func (e *Engine) collectOrphans(ctx context.Context, before time.Time) error {
	var page []blob.Key
	for found, err := range e.config.Blobs.List(ctx, before) {
		if err != nil {
			return err
		}
		if page = append(page, found.Key); len(page) < readMost {
			continue
		}
		if err := e.deleteOrphans(ctx, page); err != nil {
			return err
		}
		page = page[:0]
	}
	return e.deleteOrphans(ctx, page)
}

// deleteOrphans deletes those bodies that no row refers to, nor will: the result of an attempt
// that may still be recorded is left alone.
func (e *Engine) deleteOrphans(ctx context.Context, page []blob.Key) error {
	ids := make([]string, len(page))
	for i, key := range page {
		ids[i] = key.Task
	}
	rows, err := e.config.Store.Get(ctx, ids)
	if err != nil {
		return err
	}
	var orphans []blob.Key
	for i, key := range page {
		if isOrphan(key, &rows[i]) {
			orphans = append(orphans, key)
		}
	}
	if err := fail.Error("orphans.found"); err != nil {
		return err
	}
	return e.config.Blobs.Delete(ctx, orphans)
}

func isOrphan(key blob.Key, row *task.Task) bool {
	switch {
	case row.ID == "" || fail.Mutant("blob-collector-ignores-references"):
		return true
	case key == blob.Payload(key.Task):
		return !row.Payload.IsBlob()
	case key.Attempt == row.Attempt:
		return row.State != task.Running && !row.Result.IsBlob()
	default:
		return true
	}
}
