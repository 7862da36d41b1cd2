// Package service gives the line protocol's replies to the durable ops that answer with
// lines about tasks and queues: each function takes a request and an engine, and gives
// bytes. It has no connections; when and in which order lines are sent is lineapi's.
package service

import (
	"bytes"
	"context"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// answerer works on a request and gives its reply.
type answerer func(ctx context.Context, engine *durable.Engine, r *Request) []byte

// Request is a request of a durable op that outlives the line that it came in.
type Request struct {
	ID        []byte               // raw JSON; nil when absent
	Refused   func(code task.Code) // is told of refusals; nil: nobody is
	Room      func() *task.Error   // is called before the reply of a wait or watch is made, and may refuse; nil: there is always room
	Op        wire.Op
	options   wire.Options
	timeout   time.Duration
	selection Selection // of list, and of cancel and retry by filter
}

// New copies what the line asks for, and reads what the parser left raw.
func New(r *wire.Request) (*Request, *task.Error) {
	own := &Request{ID: bytes.Clone(r.ID), Op: r.Op, options: r.Options, timeout: r.Timeout}
	own.options.Meta, own.options.Filter = nil, nil // the selection has them
	var refusal *task.Error
	own.selection, refusal = Select(r)
	return own, refusal
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
			send(r.refuse(refusal))
		case event.Final != nil:
			send(final(ctx, engine, r, event.Final, event.Entry.Seq))
		case event.Progress != nil:
			send(wire.AppendProgress(nil, r.ID, r.options.Task, event.Entry.Attempt, *event.Progress))
		default:
			send(wire.AppendEntry(nil, r.ID, r.options.Task, &event.Entry))
		}
	}
}

// final gives the final line of a finished task, with its result if that can be shown.
func final(ctx context.Context, engine *durable.Engine, r *Request, t *task.Task, seq int) []byte {
	if refusal := r.room(); refusal != nil {
		return r.refuse(refusal)
	}
	own := *t
	engine.Show(ctx, &own, wire.MaxShown)
	return wire.AppendFinal(nil, r.ID, &own, seq, false)
}

// room asks for room for a reply.
func (r *Request) room() *task.Error {
	if r.Room == nil {
		return nil
	}
	return r.Room()
}

// get: {"id":1,"op":"get","task":"01J…"} → {"id":1,"status":"running","task":"01J…",…}
func get(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	t, refusal := engine.Get(ctx, r.options.Task, r.options.WithPayload)
	if refusal != nil {
		return r.refuse(refusal)
	}
	engine.Show(ctx, &t, wire.MaxShown)
	return wire.AppendRecord(nil, r.ID, &t)
}

// wait: {"id":1,"op":"wait","task":"01J…","timeout":5} → the record when the task is finished,
// or as it stands after 5 s
func wait(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	waiting := ctx
	if r.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	t, refusal := engine.Wait(waiting, r.options.Task)
	if refusal == nil {
		refusal = r.room()
	}
	if refusal != nil {
		return r.refuse(refusal)
	}
	engine.Show(ctx, &t, wire.MaxShown)
	return wire.AppendRecord(nil, r.ID, &t)
}

// list: {"id":1,"op":"list","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"tasks":[…],"cursor":"…"}}
func list(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	page, refusal := engine.List(ctx, durable.Query(r.selection))
	return r.result(refusal, wire.AppendList(nil, page.Tasks, page.Cursor))
}

// change: {"id":1,"op":"cancel","task":"01J…"} → {"id":1,"status":"cancelled","task":"01J…"}
func change(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	one, many := engine.Cancel, engine.CancelWhere
	if r.Op == wire.OpRetry {
		one, many = engine.Retry, engine.RetryWhere
	}
	if r.options.Task == "" {
		bulk, refusal := many(ctx, durable.Query(r.selection))
		return r.result(refusal, wire.AppendBulk(nil, wire.Bulk(bulk)))
	}
	changed, refusal := one(ctx, []string{r.options.Task})
	if refusal == nil {
		refusal = changed[0].Refusal
	}
	if refusal != nil {
		return r.refuse(refusal)
	}
	return wire.AppendState(nil, r.ID, &changed[0].Task, r.Op == wire.OpRetry)
}

// queues: {"id":1,"op":"queues"} → {"id":1,"status":"done","result":{"ok":true,"queues":[…]}}
func queues(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	found, refusal := engine.Queues(ctx)
	rows := make([]wire.Queue, len(found))
	for i, q := range found {
		rows[i] = wire.Queue(q)
	}
	return r.result(refusal, wire.AppendQueues(nil, rows))
}

// pauseOrResume: {"id":1,"op":"pause","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"queue":"mail","paused":true}}
func pauseOrResume(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	paused := r.Op == wire.OpPause
	refusal := engine.Pause(ctx, r.options.Queue, paused)
	return r.result(refusal, wire.AppendPaused(nil, r.options.Queue, paused))
}

// result is a line of kind O, or the refusal.
func (r *Request) result(refusal *task.Error, object []byte) []byte {
	if refusal != nil {
		return r.refuse(refusal)
	}
	return wire.AppendDone(nil, r.ID, object)
}

// refuse gives the line of a refusal, and tells of it.
func (r *Request) refuse(refusal *task.Error) []byte {
	if r.Refused != nil {
		r.Refused(refusal.Code)
	}
	return wire.AppendError(nil, r.ID, refusal)
}
