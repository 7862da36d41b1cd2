package answers

import (
	"bytes"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Enqueue copies what an enqueue asks for, with times for delays.
func Enqueue(r *wire.Request) (durable.Request, *task.Error) {
	o := &r.Options
	if o.PayloadBlob != nil {
		return durable.Request{}, task.RefuseField(task.Unavailable, "payload_blob", "payload_blob needs blob storage, and this node has none")
	}
	meta, refusal := labels(o.Meta)
	options := task.Options{
		Queue: o.Queue, Timeout: r.Timeout, MaxAttempts: o.MaxAttempts, Key: o.Key, Keep: o.Keep, Meta: meta, RunAt: o.RunAt,
	}
	now := time.Now()
	if o.Delay > 0 {
		options.RunAt = now.Add(o.Delay)
	}
	if o.Expires > 0 {
		options.Expires = now.Add(o.Expires)
	}
	switch o.Priority {
	case task.High.String():
		options.Priority = task.High
	case task.Low.String():
		options.Priority = task.Low
	}
	return durable.Request{Action: string(r.Action), Payload: bytes.Clone(r.Payload), Options: options}, refusal
}
