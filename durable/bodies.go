package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// bodies stores bodies in blob storage. Without blob storage it refuses them. It is safe for concurrent use.
type bodies struct {
	Blobs    blob.Blobs                           // nil: none
	Answered func(ctx context.Context, err error) // called after each call of Blobs; may be nil
	Logger   *slog.Logger                         // nil: no logs
}

// answered reports the outcome of a call.
func (k bodies) answered(ctx context.Context, err error) {
	if k.Answered != nil {
		k.Answered(ctx, err)
	}
}

// bodyError is the error of a body that could not be read or written while a task ran.
type bodyError struct {
	error
	Final bool // another attempt does not help
}

// Unwrap returns what the storage said.
func (e *bodyError) Unwrap() error { return e.error }

var (
	errNoBlobs = errors.New("this node has no blob storage")
	errNoJSON  = errors.New("it is no JSON")
)

// Check returns unavailable if there is no blob storage.
func (k bodies) Check() *task.Error {
	if k.Blobs != nil {
		return nil
	}
	return task.RefuseField(task.Unavailable, "blobs", "%s; start it with --blobs", errNoBlobs)
}

// Most returns the largest size of a body.
func (k bodies) Most() int {
	if k.Blobs == nil {
		return task.InlineBytes
	}
	return task.BlobBytes
}

// PutPayload stores the payload of a task that is about to be accepted. It refuses with payload_too_large or
// unavailable.
func (k bodies) PutPayload(ctx context.Context, id string, body io.Reader) (task.Body, *task.Error) {
	if k.Blobs == nil {
		return task.Body{}, tooLarge(task.InlineBytes)
	}
	err := fail.Error("blob.put")
	var sum blob.Sum
	if err == nil {
		sum, err = k.Blobs.Put(ctx, blob.Payload(id), body, task.BlobBytes)
		k.answered(ctx, err)
	}
	switch {
	case errors.Is(err, blob.ErrTooLarge):
		return task.Body{}, tooLarge(task.BlobBytes)
	case err != nil:
		return task.Body{}, task.Refuse(task.Unavailable, "blob storage cannot be reached, so the payload was not stored; try again later")
	}
	fail.Point("payload.stored")
	return task.Body{Size: sum.Size, SHA256: sum.SHA256}, nil
}

func tooLarge(most int) *task.Error {
	refusal := task.RefuseField(task.PayloadTooLarge, "payload", "the payload has more than the %d bytes that are kept", most)
	refusal.Limit = fmt.Sprintf("%d bytes", most)
	return refusal
}

// CheckUpload refuses an upload that does not exist, since its task could never run.
func (k bodies) CheckUpload(ctx context.Context, u *task.Upload) *task.Error {
	if refusal := k.Check(); refusal != nil {
		return refusal
	}
	stream, err := k.Blobs.Get(ctx, blob.Payload(u.Task), sumOf(u.Body))
	k.answered(ctx, err)
	switch {
	case err == nil:
		_ = stream.Close()
		return nil
	case errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil:
		return task.RefuseField(task.Unavailable, "payload_blob", "blob storage cannot be reached, so the blob cannot be read; try again later")
	}
	return task.RefuseField(task.InvalidRequest, "payload_blob", "there is no such blob: %v; blobs wait a day for their task", err)
}

// PutResult stores the result of an attempt; it fails with an Error.
func (k bodies) PutResult(ctx context.Context, t *task.Task, result []byte) (task.Body, error) {
	err := fail.Error("result.put")
	var sum blob.Sum
	if err == nil {
		sum, err = k.Blobs.Put(ctx, blob.Result(t.ID, t.Fence), bytes.NewReader(result), task.BlobBytes)
		k.answered(ctx, err)
	}
	if err != nil {
		return task.Body{}, bodyFailure("result", err)
	}
	fail.Point("result.stored")
	return task.Body{Size: sum.Size, SHA256: sum.SHA256}, nil
}

// CopyResult stores the result of an attempt whose data was uploaded like a payload; it fails with an Error.
func (k bodies) CopyResult(ctx context.Context, t *task.Task, upload string, data task.Body) (task.Body, error) {
	if k.Blobs == nil {
		return task.Body{}, bodyFailure("result", errNoBlobs)
	}
	stream, err := k.Blobs.Get(ctx, blob.Payload(upload), sumOf(data))
	var sum blob.Sum
	if err == nil {
		result := io.MultiReader(strings.NewReader(executor.DataPrefix), stream, strings.NewReader("}"))
		sum, err = k.Blobs.Put(ctx, blob.Result(t.ID, t.Fence), result, task.BlobBytes)
		err = errors.Join(err, stream.Close())
	}
	k.answered(ctx, err)
	if err != nil {
		return task.Body{}, bodyFailure("result", err)
	}
	return task.Body{Size: sum.Size, SHA256: sum.SHA256}, nil
}

// Open opens a body that a row refers to, wherever it is stored, and returns its size. The caller closes it.
func (k bodies) Open(ctx context.Context, key blob.Key, body task.Body) (io.ReadCloser, int64, *task.Error) {
	if !body.IsBlob() {
		return io.NopCloser(bytes.NewReader(body.Inline)), int64(len(body.Inline)), nil
	}
	if refusal := k.Check(); refusal != nil {
		return nil, 0, refusal
	}
	stream, err := k.Blobs.Get(ctx, key, sumOf(body))
	k.answered(ctx, err)
	switch {
	case errors.Is(err, blob.ErrUnavailable):
		return nil, 0, task.Refuse(task.Unavailable, "blob storage cannot be reached, so the body cannot be read; try again later")
	case err != nil:
		return nil, 0, task.Refuse(task.Unavailable, "the body %s cannot be read: it is not there, or not as it was stored", key)
	}
	return stream, body.Size, nil
}

// OpenPayload opens the payload of an attempt in blob storage for its action.
func (k bodies) OpenPayload(ctx context.Context, t *task.Task) (io.ReadCloser, error) {
	stream, err := k.Blobs.Get(ctx, blob.Payload(t.ID), sumOf(t.Payload))
	k.answered(ctx, err)
	return stream, err
}

// ReadPayload reads the payload of an attempt from blob storage. The error is a *bodyError.
func (k bodies) ReadPayload(ctx context.Context, t *task.Task) ([]byte, error) {
	payload, err := k.read(ctx, blob.Payload(t.ID), t.Payload)
	if err != nil {
		return nil, bodyFailure("payload", err)
	}
	return payload, nil
}

// Show reads a body into its Inline if it is in blob storage and not larger than most. It leaves a body that cannot
// be read unchanged.
func (k bodies) Show(ctx context.Context, key blob.Key, body *task.Body, most int64) {
	if !body.IsBlob() || body.Size > most {
		return
	}
	if text, err := k.read(ctx, key, *body); err == nil {
		body.Inline = text
	}
}

// read reads a whole body from blob storage.
func (k bodies) read(ctx context.Context, key blob.Key, body task.Body) ([]byte, error) {
	if k.Blobs == nil {
		return nil, errNoBlobs
	}
	stream, err := k.Blobs.Get(ctx, key, sumOf(body))
	k.answered(ctx, err)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	text := make([]byte, body.Size)
	if _, err = io.ReadFull(stream, text); err == nil && key.Attempt == 0 && !isJSON(text) {
		err = errNoJSON // the client has written it with a signed URL
	}
	return text, err
}

// Drop deletes the payload of a task that was not stored. If that fails, the payload is an orphan.
func (k bodies) Drop(ctx context.Context, t *task.Task) {
	if t.Payload.IsBlob() {
		fail.Point("accept.unused")
		_ = k.Blobs.Delete(context.WithoutCancel(ctx), []blob.Key{blob.Payload(t.ID)})
	}
}

// Delete deletes the bodies of deleted tasks. Bodies that it cannot delete are orphans.
func (k bodies) Delete(ctx context.Context, tasks []task.Task) error {
	var keys []blob.Key
	for i := range tasks {
		t := &tasks[i]
		if t.Payload.IsBlob() {
			keys = append(keys, blob.Payload(t.ID))
		}
		if t.Result.IsBlob() {
			keys = append(keys, blob.Result(t.ID, t.Fence))
		}
	}
	if len(keys) == 0 || k.Blobs == nil {
		return nil
	}
	fail.Point("discard.committed")
	return k.Blobs.Delete(ctx, keys)
}

func sumOf(body task.Body) blob.Sum { return blob.Sum{Size: body.Size, SHA256: body.SHA256} }

func bodyFailure(what string, err error) error {
	final := errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrCorrupt) || errors.Is(err, blob.ErrExists) || errors.Is(err, errNoJSON)
	if errors.Is(err, blob.ErrUnavailable) {
		return &bodyError{&awayError{what, err}, final}
	}
	return &bodyError{fmt.Errorf("the %s: %w", what, err), final}
}

// awayError says that blob storage is unavailable. Its text does not include the cause, which names hosts, since
// clients see it.
type awayError struct {
	what string
	error
}

// Error says it in one sentence.
func (e *awayError) Error() string { return "the " + e.what + ": blob storage cannot be reached" }

// Unwrap returns what the storage said.
func (e *awayError) Unwrap() error { return e.error }

// isJSON reports whether a payload is JSON by the rules of the line protocol.
func isJSON(text []byte) bool {
	return utf8.Valid(text) && json.Valid(text) && depthOf(text) <= task.MaxDepth
}

// depthOf returns the nesting of valid JSON.
func depthOf(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
