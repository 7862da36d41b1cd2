package service

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// defaultPage is how many tasks a list has if the request does not say.
	defaultPage = 50
	// defaultBulk is how many tasks a change by filter reaches if the request does not say.
	defaultBulk = 1000
)

// Enqueued returns the task of a valid enqueue by a client, or refuses it. It shares no memory with the line.
func Enqueued(r *wire.Request, who *auth.Identity) (durable.Request, *task.Error) {
	o := &r.Options
	if refusal := mayEnqueue(r, who); refusal != nil {
		return durable.Request{}, refusal
	}
	meta, refusal := labels(o.Meta)
	if refusal != nil {
		return durable.Request{}, refusal
	}
	wanted := durable.Request{Action: string(r.Action), Payload: bytes.Clone(r.Payload), Options: task.Options{
		Queue: o.Queue, Delay: max(o.Delay, 0), RunAt: o.RunAt, Timeout: r.Timeout, MaxAttempts: o.MaxAttempts, Backoff: o.Backoff,
		BackoffMax: o.BackoffMax, Key: o.Key, Keep: o.Keep, KeepFailed: o.KeepFailed, ExpiresIn: o.Expires, Meta: meta,
		Owner: who.Subject,
	}}
	switch o.Priority {
	case task.High.String():
		wanted.Options.Priority = task.High
	case task.Low.String():
		wanted.Options.Priority = task.Low
	}
	if o.PayloadBlob != nil {
		wanted.Upload, refusal = readUpload(o.PayloadBlob)
	}
	return wanted, refusal
}

// queryOf returns the selection in the fields of a request, or in its filter if it has one. It shares no memory
// with the line.
func queryOf(r *wire.Request) (durable.Query, *task.Error) {
	o := &r.Options
	if o.Run != nil {
		return durable.Query{}, task.RefuseField(task.InvalidRequest, "run", "a cancel by run is for the connection of the run")
	}
	if o.Filter != nil {
		return readFilter(o.Filter, o.Limit)
	}
	q := durable.Query{Queue: o.Queue, Action: string(r.Action), Owner: o.Owner, State: task.State(o.Status), Since: o.Since, Until: o.Until, Limit: o.Limit, Cursor: o.Cursor}
	if q.Limit == 0 {
		q.Limit = defaultPage
	}
	var refusal *task.Error
	q.Meta, refusal = labels(o.Meta)
	return q, refusal
}

// readFilter parses the filter of a cancel or a retry, which the wire parser has checked.
func readFilter(raw []byte, limit int) (durable.Query, *task.Error) {
	var filter struct {
		Queue  string            `json:"queue"`
		Action string            `json:"action"`
		Status task.State        `json:"status"`
		Owner  string            `json:"owner"`
		Meta   map[string]string `json:"meta"`
	}
	if err := json.Unmarshal(raw, &filter); err != nil {
		return durable.Query{}, task.RefuseField(task.InvalidRequest, "filter", "filter: %v", err)
	}
	if limit == 0 {
		limit = defaultBulk
	}
	return durable.Query{Queue: filter.Queue, Action: filter.Action, State: filter.Status, Owner: filter.Owner, Meta: filter.Meta, Limit: limit}, nil
}

// labels parses labels, which are known to be an object of strings.
func labels(raw []byte) (map[string]string, *task.Error) {
	if raw == nil {
		return nil, nil
	}
	var meta map[string]string
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, task.RefuseField(task.InvalidRequest, "meta", "meta must be an object whose values are strings")
	}
	return meta, nil
}

// readUpload reads a payload_blob.
func readUpload(raw []byte) (*task.Upload, *task.Error) {
	var b struct {
		Task   string `json:"task"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	}
	known := exactKeys(raw, "task", "size", "sha256") && json.Unmarshal(raw, &b) == nil
	isHex := len(b.SHA256) == 64 && strings.Trim(b.SHA256, "0123456789abcdef") == ""
	isID := len(b.Task) == 26 && strings.Trim(b.Task, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	if !known || !isHex || !isID || b.Size < 0 || b.Size > task.BlobBytes {
		return nil, task.RefuseField(task.InvalidRequest, "payload_blob",
			"payload_blob must be the blob that PUT /v1/blobs answered: an object with task, size and sha256")
	}
	return &task.Upload{Task: b.Task, Body: task.Body{Size: b.Size, SHA256: b.SHA256}}, nil
}

// exactKeys reports whether an object has no other keys than these. The standard library ignores the case of keys.
func exactKeys(raw []byte, allowed ...string) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return false
	}
	for name := range members {
		if !slices.Contains(allowed, name) {
			return false
		}
	}
	return true
}
