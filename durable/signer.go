package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// signedFor is how long a signed URL is valid: long enough to begin a transfer, and short in case the URL leaks.
const signedFor = 15 * time.Minute

// SignPut returns a URL to which the payload of a task that is accepted later can be PUT, with the header
// If-None-Match: *. Refusals: invalid_request if the storage cannot sign URLs, unavailable.
func (k bodies) SignPut(ctx context.Context, id string) (string, *task.Error) {
	signer, refusal := k.signer()
	if refusal != nil {
		return "", refusal
	}
	to, err := signer.SignPut(ctx, blob.Payload(id), signedFor)
	return k.signed(to, err)
}

// SignGet returns a URL from which a body can be read. A body in the row has none; the refusal is invalid_request.
func (k bodies) SignGet(ctx context.Context, key blob.Key, body task.Body) (string, *task.Error) {
	signer, refusal := k.signer()
	if refusal != nil {
		return "", refusal
	}
	if !body.IsBlob() {
		return "", task.RefuseField(task.InvalidRequest, "presign",
			"the body has %d bytes and is kept with the task, not in blob storage; ask without presign", len(body.Inline))
	}
	to, err := signer.SignGet(ctx, key, signedFor)
	return k.signed(to, err)
}

func (k bodies) signed(to string, err error) (string, *task.Error) {
	if err != nil {
		if k.Logger != nil {
			k.Logger.Error("no URL could be signed", "error", err)
		}
		return "", task.Refuse(task.Unavailable, "no URL could be signed; the node's log says why")
	}
	return to, nil
}

// signer returns the storage if it signs URLs.
func (k bodies) signer() (blob.Signer, *task.Error) {
	if refusal := k.Check(); refusal != nil {
		return nil, refusal
	}
	if signer, ok := k.Blobs.(blob.Signer); ok {
		return signer, nil
	}
	return nil, task.RefuseField(task.InvalidRequest, "presign",
		"the blob storage of this node signs no URLs, as --blobs s3://… does; ask without presign, and the body goes through the node")
}
