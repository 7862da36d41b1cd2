package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// Signed is a URL that gives its holder access to one body in blob storage, without the node.
type Signed struct {
	Task  string        // the task of the body
	URL   string        // it is a credential and must not be logged
	Valid time.Duration // how long it can be used
	Body  task.Body     // the body, for a check by the client; zero for an upload
}

// SignUpload returns a URL to which a payload can be PUT, with the header If-None-Match: *, for a task that is
// accepted later. The payload is checked only when it is used: the client sends its size and SHA-256, and a payload
// that is not JSON fails its task. Refusals: invalid_request if the storage cannot sign URLs, unavailable.
func (e *Engine) SignUpload(ctx context.Context) (Signed, *task.Error) {
	id, err := e.acceptor.ids.next(e.config.Now())
	if err != nil {
		return Signed{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	to, refusal := e.bodies.SignPut(ctx, id)
	return Signed{Task: id, URL: to, Valid: signedFor}, refusal
}

// SignPayload returns a URL of the payload of a task. A payload in the row has none; the refusal is
// invalid_request.
func (e *Engine) SignPayload(ctx context.Context, id string) (Signed, *task.Error) {
	t, refusal := e.getWith(ctx, id, true)
	if refusal != nil {
		return Signed{}, refusal
	}
	return e.signGet(ctx, blob.Payload(id), t.Payload)
}

// SignResult returns a URL of the result of a done task. A result in the row has none; the refusal is
// invalid_request.
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
