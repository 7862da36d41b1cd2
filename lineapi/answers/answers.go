// Package answers gives the line protocol's replies to the durable ops that answer with
// lines about tasks and queues: each function takes a request and an engine, and gives
// bytes. It has no connections; when and in which order lines are sent is lineapi's.
package answers

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// answerer works on a request and gives its reply.
type answerer func(ctx context.Context, engine *durable.Engine, r *Request) []byte

// Request is a request of a durable op that outlives the line that it came in.
type Request struct {
	ID      []byte // raw JSON; nil when absent
	Op      wire.Op
	action  string
	options wire.Options
	timeout time.Duration
	filter  durable.Query // of cancel and retry
}

// New copies what the line asks for, and reads what the parser left raw.
func New(r *wire.Request) (*Request, *task.Error) {
	own := &Request{ID: bytes.Clone(r.ID), Op: r.Op, action: string(r.Action), options: r.Options, timeout: r.Timeout}
	own.options.Meta = bytes.Clone(r.Options.Meta)
	return own, own.readFilter(r.Options.Filter)
}

// answererOf is the table of the ops that answer with one line.
func answererOf(op wire.Op) answerer {
	switch op {
	case wire.OpGet:
		return get
	case wire.OpWait:
		return wait
	case wire.OpCancel, wire.OpRetry:
		return change
	case wire.OpList:
		return list
	case wire.OpQueues:
		return queues
	}
	return pauseOrResume
}

// Answer gives the reply line of any op but enqueue and watch. Of a wait that takes as
// long as the task does, or until ctx ends.
func (r *Request) Answer(ctx context.Context, engine *durable.Engine) []byte {
	return answererOf(r.Op)(ctx, engine, r)
}

// Watch hands on the lines of a watch as they come, until the task is finished or ctx ends:
// {"id":1,"op":"watch","task":"01J…"} → a line for each change, the final one last
func (r *Request) Watch(ctx context.Context, engine *durable.Engine, send func([]byte)) {
	for event, refusal := range engine.Watch(ctx, r.options.Task, r.options.After) {
		switch {
		case refusal != nil:
			send(wire.AppendError(nil, r.ID, refusal))
		case event.Final != nil:
			send(wire.AppendFinal(nil, r.ID, event.Final, event.Entry.Seq, false))
		case event.Progress != nil:
			send(wire.AppendProgress(nil, r.ID, r.options.Task, event.Entry.Attempt, *event.Progress))
		case event.Entry.State.Final():
			// It ended before a retry by hand: a line of such a status would be
			// taken for the last one.
		default:
			send(wire.AppendEntry(nil, r.ID, r.options.Task, &event.Entry))
		}
	}
}

// get: {"id":1,"op":"get","task":"01J…"} → {"id":1,"status":"running","task":"01J…",…}
func get(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	t, refusal := engine.Get(ctx, r.options.Task, r.options.WithPayload)
	return record(r.ID, &t, refusal)
}

// wait: {"id":1,"op":"wait","task":"01J…","timeout":5} → the record when the task is finished,
// or as it stands after 5 s
func wait(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	t, refusal := engine.Wait(ctx, r.options.Task)
	return record(r.ID, &t, refusal)
}

func record(id []byte, t *task.Task, refusal *task.Error) []byte {
	if refusal != nil {
		return wire.AppendError(nil, id, refusal)
	}
	return wire.AppendRecord(nil, id, t)
}

// change: {"id":1,"op":"cancel","task":"01J…"} → {"id":1,"status":"cancelled","task":"01J…"}
func change(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	one, many := engine.Cancel, engine.CancelWhere
	if r.Op == wire.OpRetry {
		one, many = engine.Retry, engine.RetryWhere
	}
	if r.options.Task == "" {
		bulk, refusal := many(ctx, r.filter)
		return result(r.ID, refusal, struct {
			OK         bool `json:"ok"`
			Matched    int  `json:"matched"`
			Changed    int  `json:"changed"`
			Cancelling int  `json:"cancelling"`
			More       bool `json:"more"`
		}{true, bulk.Matched, bulk.Changed, bulk.Cancelling, bulk.More})
	}
	changed, refusal := one(ctx, []string{r.options.Task})
	if refusal == nil {
		refusal = changed[0].Refusal
	}
	if refusal != nil {
		return wire.AppendError(nil, r.ID, refusal)
	}
	return wire.AppendState(nil, r.ID, &changed[0].Task, r.Op == wire.OpRetry)
}

// queues: {"id":1,"op":"queues"} → {"id":1,"status":"done","result":{"ok":true,"queues":[…]}}
func queues(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	type queue struct {
		Queue     string  `json:"queue"`
		Paused    bool    `json:"paused"`
		Scheduled int64   `json:"scheduled"`
		Queued    int64   `json:"queued"`
		Running   int64   `json:"running"`
		Failed    int64   `json:"failed"`
		Oldest    float64 `json:"oldest_s"`
		RateIn    float64 `json:"rate_in"`
		RateOut   float64 `json:"rate_out"`
		Unserved  bool    `json:"unserved"`
	}
	found, refusal := engine.Queues(ctx)
	all := make([]queue, len(found))
	for i, q := range found {
		all[i] = queue{q.Name, q.Paused, q.Scheduled, q.Queued, q.Running, q.Failed, 0, q.RateIn, q.RateOut, q.Unserved}
		if !q.Oldest.IsZero() {
			all[i].Oldest = max(time.Since(q.Oldest), 0).Round(time.Millisecond).Seconds()
		}
	}
	return result(r.ID, refusal, struct {
		OK     bool    `json:"ok"`
		Queues []queue `json:"queues"`
	}{true, all})
}

// pauseOrResume: {"id":1,"op":"pause","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"queue":"mail","paused":true}}
func pauseOrResume(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	paused := r.Op == wire.OpPause
	return result(r.ID, engine.Pause(ctx, r.options.Queue, paused), struct {
		OK     bool   `json:"ok"`
		Queue  string `json:"queue"`
		Paused bool   `json:"paused"`
	}{true, r.options.Queue, paused})
}

// result is a line of kind O, or the refusal.
func result(id []byte, refusal *task.Error, value any) []byte {
	if refusal != nil {
		return wire.AppendError(nil, id, refusal)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return wire.AppendError(nil, id, task.Refuse(task.Internal, "the answer could not be written: %v", err))
	}
	return wire.AppendDone(nil, id, text)
}
