// Package service defines once what each op of durable tasks means, for all doors. It takes a parsed request, calls
// the engine, and renders the reply. Doors read requests, decide when to send replies, and frame them.
package service

import (
	"bytes"
	"context"
	"iter"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Service executes durable requests. It is safe for concurrent use.
type Service struct{ engine *durable.Engine }

// New returns a Service that uses the engine.
func New(engine *durable.Engine) *Service { return &Service{engine: engine} }

// Request is a durable request that does not need the line in which it arrived any more.
type Request struct {
	ID []byte // raw JSON; nil when absent
	Op wire.Op
	// Room is called before a reply is made that may be large. It may refuse. nil: there is always room.
	Room func() *task.Error

	who         *auth.Identity
	task        string
	queue       string
	after       int
	withPayload bool
	timeout     time.Duration
	query       durable.Query // the selection of list, and of cancel and retry by filter
}

// NewRequest returns the request of a valid line of a client. It shares no memory with the line.
func NewRequest(r *wire.Request, who *auth.Identity) (*Request, *task.Error) {
	o := &r.Options
	query, refusal := queryOf(r)
	return &Request{
		ID: bytes.Clone(r.ID), Op: r.Op, who: who,
		task: o.Task, queue: o.Queue, after: o.After, withPayload: o.WithPayload, timeout: r.Timeout, query: query,
	}, refusal
}

// room asks for room for the reply.
func (r *Request) room() *task.Error {
	if r.Room == nil {
		return nil
	}
	return r.Room()
}

// Reply is the answer to a request: a line about a task, or a result object.
type Reply struct {
	id     []byte
	task   []byte // the whole line
	result []byte
}

// Line returns the reply as a line.
func (r Reply) Line() []byte {
	if r.result != nil {
		return wire.AppendDone(nil, r.id, r.result)
	}
	return r.task
}

// Body returns the reply to a request without an id, without its envelope.
func (r Reply) Body() []byte {
	if r.result != nil {
		return append(r.result, '\n')
	}
	return wire.Bare(r.task)
}

// Do executes a request of any op but run, enqueue and watch. A wait returns when the task is finished, at its
// timeout, or when ctx ends. A change is made even if ctx ends.
func (s *Service) Do(ctx context.Context, r *Request) (Reply, *task.Error) {
	switch r.Op {
	case wire.OpGet:
		return s.get(ctx, r)
	case wire.OpWait:
		return s.wait(ctx, r)
	case wire.OpCancel:
		return s.change(ctx, r, s.engine.Cancel, s.engine.CancelWhere)
	case wire.OpRetry:
		return s.change(ctx, r, s.engine.Retry, s.engine.RetryWhere)
	case wire.OpList:
		return s.list(ctx, r)
	case wire.OpQueues:
		return s.queues(ctx, r)
	case wire.OpPause, wire.OpResume:
		return s.pause(ctx, r)
	}
	return Reply{}, task.Refuse(task.Internal, "op %s is not one about tasks", r.Op)
}

// get: {"id":1,"op":"get","task":"01J…"} → {"id":1,"status":"running","task":"01J…",…}
func (s *Service) get(ctx context.Context, r *Request) (Reply, *task.Error) {
	if refusal := r.room(); refusal != nil {
		return Reply{}, refusal
	}
	t, refusal := s.engine.Get(ctx, r.task, r.withPayload)
	if refusal == nil && !r.sees(&t) {
		refusal = durable.RefuseNotFound(r.task)
	}
	if refusal != nil {
		return Reply{}, refusal
	}
	return s.record(ctx, r, &t), nil
}

// wait: {"id":1,"op":"wait","task":"01J…","timeout":5} → the record when the task is finished,
// or as it stands after 5 s
func (s *Service) wait(ctx context.Context, r *Request) (Reply, *task.Error) {
	if refusal := s.visible(ctx, r.who, r.task); refusal != nil {
		return Reply{}, refusal
	}
	waiting := ctx
	if r.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	t, refusal := s.engine.Wait(waiting, r.task)
	if refusal == nil {
		refusal = r.room()
	}
	if refusal != nil {
		return Reply{}, refusal
	}
	return s.record(ctx, r, &t), nil
}

// record renders a task.
func (s *Service) record(ctx context.Context, r *Request, t *task.Task) Reply {
	s.engine.Show(ctx, t, wire.MaxShown)
	return Reply{id: r.ID, task: wire.AppendRecord(nil, r.ID, t)}
}

// list: {"id":1,"op":"list","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"tasks":[…],"cursor":"…"}}
func (s *Service) list(ctx context.Context, r *Request) (Reply, *task.Error) {
	if refusal := r.room(); refusal != nil {
		return Reply{}, refusal
	}
	query, refusal := r.narrowed(auth.See)
	if refusal != nil {
		return Reply{}, refusal
	}
	page, refusal := s.engine.List(ctx, query)
	return Reply{id: r.ID, result: wire.AppendList(nil, page.Tasks, page.Cursor)}, refusal
}

// change: {"id":1,"op":"cancel","task":"01J…"} → {"id":1,"status":"cancelled","task":"01J…"}
func (s *Service) change(ctx context.Context, r *Request, one func(context.Context, []string) ([]durable.Changed, *task.Error),
	many func(context.Context, durable.Query) (task.Bulk, *task.Error),
) (Reply, *task.Error) {
	if r.task == "" {
		query, refusal := r.narrowed(verbOf(r.Op))
		if refusal != nil {
			return Reply{}, refusal
		}
		bulk, refusal := many(asBulk(ctx, r.who, filterOf(&query)), query)
		return Reply{id: r.ID, result: wire.AppendBulk(nil, bulk)}, refusal
	}
	if refusal := s.changeable(ctx, r.who, verbOf(r.Op), r.task); refusal != nil {
		return Reply{}, refusal
	}
	changed, refusal := one(asClient(ctx, r.who), []string{r.task})
	if refusal == nil {
		refusal = changed[0].Refusal
	}
	if refusal != nil {
		return Reply{}, refusal
	}
	return Reply{id: r.ID, task: wire.AppendState(nil, r.ID, &changed[0].Task, r.Op == wire.OpRetry)}, nil
}

// queues: {"id":1,"op":"queues"} → {"id":1,"status":"done","result":{"ok":true,"queues":[…]}}
func (s *Service) queues(ctx context.Context, r *Request) (Reply, *task.Error) {
	if refusal := r.room(); refusal != nil {
		return Reply{}, refusal
	}
	if refusal := mustSee(r.who); refusal != nil {
		return Reply{}, refusal
	}
	found, refusal := s.engine.Queues(ctx)
	return Reply{id: r.ID, result: wire.AppendQueues(nil, visibleQueues(r.who, found))}, refusal
}

// pause: {"id":1,"op":"pause","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"queue":"mail","paused":true}}
func (s *Service) pause(ctx context.Context, r *Request) (Reply, *task.Error) {
	paused := r.Op == wire.OpPause
	if refusal := mayPause(r.who, r.queue); refusal != nil {
		return Reply{}, refusal
	}
	refusal := s.engine.Pause(asClient(ctx, r.who), r.queue, paused)
	return Reply{id: r.ID, result: wire.AppendPaused(nil, r.queue, paused)}, refusal
}

// Nodes returns the live nodes. There is no op for it.
func (s *Service) Nodes(ctx context.Context, who *auth.Identity) (Reply, *task.Error) {
	if refusal := mustSee(who); refusal != nil {
		return Reply{}, refusal
	}
	if !auth.Authorize(who, auth.See, auth.Resource{}) {
		return Reply{result: wire.AppendNodes(nil, nil)}, nil
	}
	found, refusal := s.engine.Nodes(ctx)
	return Reply{result: wire.AppendNodes(nil, found)}, refusal
}

// Watch follows a task until it is finished or ctx ends:
// {"id":1,"op":"watch","task":"01J…"} → a line for each change, the final one last
func (s *Service) Watch(ctx context.Context, r *Request) iter.Seq2[durable.Event, *task.Error] {
	if refusal := s.visible(ctx, r.who, r.task); refusal != nil {
		return func(yield func(durable.Event, *task.Error) bool) { yield(durable.Event{}, refusal) }
	}
	return s.engine.Watch(ctx, r.task, r.after)
}

// AppendEvent appends the line of an event of a watch.
func (s *Service) AppendEvent(ctx context.Context, dst []byte, r *Request, event *durable.Event) []byte {
	switch {
	case event.Final != nil:
		return s.AppendFinal(ctx, dst, r.ID, event.Final, Final{Seq: event.Entry.Seq})
	case event.Progress != nil:
		return wire.AppendProgress(dst, r.ID, r.task, event.Entry.Attempt, *event.Progress)
	}
	return wire.AppendEntry(dst, r.ID, r.task, &event.Entry)
}

// Final has what a final line says besides the outcome.
type Final struct {
	Seq       int  // the seq of the last entry of the task; 0: left out
	Duplicate bool // an earlier enqueue with the same key created the task
}

// AppendFinal appends the final line of a finished task, with its result unless it is too large.
func (s *Service) AppendFinal(ctx context.Context, dst, id []byte, t *task.Task, f Final) []byte {
	own := *t // the task may be shared
	own.Payload = task.Body{}
	s.engine.Show(ctx, &own, wire.MaxShown)
	return wire.AppendFinal(dst, id, &own, f.Seq, f.Duplicate)
}

// Accept accepts tasks together, which Enqueued has returned for a client. They are accepted even if ctx ends.
func (s *Service) Accept(ctx context.Context, who *auth.Identity, list []durable.Request) []durable.Accepted {
	answers := s.engine.Accept(context.WithoutCancel(ctx), list)
	if !who.All(auth.See) {
		for i := range answers {
			conceal(who, &answers[i])
		}
	}
	return answers
}

// AppendAccepted appends the line that answers an enqueue.
func (s *Service) AppendAccepted(ctx context.Context, dst, id []byte, answer *durable.Accepted) []byte {
	switch {
	case answer.Refusal != nil:
		return wire.AppendError(dst, id, answer.Refusal)
	case answer.Task.State.Final():
		return s.AppendFinal(ctx, dst, id, &answer.Task, Final{Duplicate: answer.Duplicate})
	}
	return wire.AppendAccepted(dst, id, &answer.Task, answer.Duplicate, answer.Warning)
}

// Wait waits until a task that the client has just enqueued is finished or ctx ends, and returns the task. An enqueue with
// wait needs the grant to see it.
func (s *Service) Wait(ctx context.Context, id string) (task.Task, *task.Error) {
	return s.engine.Wait(ctx, id)
}
