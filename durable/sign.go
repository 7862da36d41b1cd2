package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// Signed is a URL that lets whoever has it past the node, to one body in blob storage.
type Signed struct {
	Task  string        // whose body it is, or will be
	URL   string        // it is a right: it may not be logged
	Valid time.Duration // how long it can be used
	Body  task.Body     // what is there, by which the client checks it; nothing yet of an upload
}

// SignUpload returns a URL to which a payload can be PUT, with the header If-None-Match: *, for a task
// that is accepted later. Nobody checks what is put there before it is used: its size and SHA-256
// are the client's word, and a payload that is no JSON fails its task.
// Refusals: invalid_request where the storage signs no URLs, unavailable.
func (e *Engine) SignUpload(ctx context.Context) (Signed, *task.Error) {
	id, err := e.acceptor.ids.next(e.config.Now())
	if err != nil {
		return Signed{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	to, refusal := e.bodies.SignPut(ctx, id)
	return Signed{Task: id, URL: to, Valid: signedFor}, refusal
}

// SignPayload returns a URL of a task's payload. A payload that is kept in the row has none, which is
// refused as SignUpload refuses.
func (e *Engine) SignPayload(ctx context.Context, id string) (Signed, *task.Error) {
	t, refusal := e.getWith(ctx, id, true)
	if refusal != nil {
		return Signed{}, refusal
	}
	return e.signGet(ctx, blob.Payload(id), t.Payload)
}

// SignResult returns a URL of the result of a done task, likewise.
func (e *Engine) SignResult(ctx context.Context, id string) (Signed, *task.Error) {
	t, refusal := e.getDone(ctx, id)
	if refusal != nil {
		return Signed{}, refusal
	}
	return e.signGet(ctx, blob.Result(id, t.Fence), t.Result)
}

func (e *Engine) signGet(ctx context.Context, key blob.Key, body task.Body) (Signed, *task.Error) {
	to, refusal := e.bodies.SignGet(ctx, key, body)
	return Signed{Task: key.Task, URL: to, Valid: signedFor, Body: body}, refusal
}
