package service

import (
	"context"
	"io"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// This file asks package auth what a client may do. What a client may not see is answered like what does not exist. What
// it may see but not do is forbidden.

// verbOf returns the verb that an op needs. It panics for an op that it does not know, so that a test finds it.
func verbOf(op wire.Op) auth.Verb {
	verb, known := needs(op)
	if !known {
		panic("service: no verb for op " + op.String())
	}
	return verb
}

// needs returns the verb that an op needs; 0 if every client may ask for it. known is false for an op that is missing here,
// which nobody may ask for.
func needs(op wire.Op) (verb auth.Verb, known bool) {
	switch op {
	case wire.OpRun:
		return auth.Run, true
	case wire.OpEnqueue:
		return auth.Enqueue, true
	case wire.OpGet, wire.OpWait, wire.OpWatch, wire.OpList, wire.OpQueues:
		return auth.See, true
	case wire.OpCancel:
		return auth.Cancel, true
	case wire.OpRetry:
		return auth.Retry, true
	case wire.OpPause, wire.OpResume:
		return auth.Manage, true
	case wire.OpPing, wire.OpInfo, wire.OpAuth:
		return 0, true
	case wire.OpWork, wire.OpFinish, wire.OpFail, wire.OpRelease, wire.OpProgress, wire.OpSlots, wire.OpLeave, wire.OpPoll, wire.OpBeat:
		return auth.Work, true
	}
	return 0, false
}

// Admit refuses an op that a client may do on nothing at all. What it may do on some things is decided later, for each of
// them; so is an op that names a task, whose existence a refusal could give away.
func Admit(who *auth.Identity, op wire.Op) *task.Error {
	verb, known := needs(op)
	switch {
	case !known:
		return task.Refuse(task.Forbidden, "op %s is not open to clients", op)
	case verb == 0 || who.All(verb) || auth.Any(who, verb):
		return nil
	}
	switch op {
	case wire.OpGet, wire.OpWait, wire.OpWatch, wire.OpCancel, wire.OpRetry, wire.OpPause, wire.OpResume:
		return nil
	}
	return Forbid(verb, "anything")
}

// Forbid returns the refusal of what no grant of a client allows.
func Forbid(verb auth.Verb, what string) *task.Error {
	return task.Refuse(task.Forbidden, "the token has no grant %s for %s", verb, what)
}

// MayRun refuses a direct run that no grant allows.
func MayRun(who *auth.Identity, action []byte) *task.Error {
	if who.All(auth.Run) || auth.Authorize(who, auth.Run, auth.Resource{Action: string(action)}) {
		return nil
	}
	return Forbid(auth.Run, "the action "+string(action))
}

// mayEnqueue refuses an enqueue that no grant allows. To wait for the task, the client must be allowed to see it.
func mayEnqueue(r *wire.Request, who *auth.Identity) *task.Error {
	if who.All(auth.Enqueue) && who.All(auth.See) {
		return nil
	}
	on := auth.Resource{Action: string(r.Action), Queue: queueOf(r)}
	if !auth.Authorize(who, auth.Enqueue, on) {
		return Forbid(auth.Enqueue, "the action "+on.Action+" in the queue "+on.Queue)
	}
	if who != nil {
		on.Owner = who.Subject
	}
	if r.Options.Wait && !auth.Authorize(who, auth.See, on) {
		return Forbid(auth.See, "the task, so it cannot wait for it")
	}
	return nil
}

func queueOf(r *wire.Request) string {
	if r.Options.Queue == "" {
		return task.DefaultQueue
	}
	return r.Options.Queue
}

// conceal removes from the answer to an enqueue what the client may not see: an idempotency key, or a blob, may belong to
// a task of somebody else.
func conceal(who *auth.Identity, answer *durable.Accepted) {
	switch refusal := answer.Refusal; {
	case refusal != nil && (refusal.Code == task.KeyConflict || refusal.Code == task.Conflict):
		answer.Refusal = refuseTaken(refusal)
		answer.Task = task.Task{}
	case refusal != nil || !answer.Duplicate || auth.Authorize(who, auth.See, auth.OfTask(&answer.Task)):
	case who.Subject != "" && answer.Task.Owner == who.Subject: // its own task, whose outcome it may not see
		answer.Task.Result, answer.Task.Error, answer.Task.Code = task.Body{}, "", ""
	default:
		answer.Refusal = refuseTaken(&task.Error{Code: task.KeyConflict, Field: "key"})
		answer.Task = task.Task{}
	}
}

// refuseTaken returns a refusal that says nothing about the task that has a key or a blob.
func refuseTaken(refusal *task.Error) *task.Error {
	return task.RefuseField(refusal.Code, refusal.Field, "another task has the %s", refusal.Field)
}

// sees reports whether the client may see a task.
func (r *Request) sees(t *task.Task) bool { return auth.Authorize(r.who, auth.See, auth.OfTask(t)) }

// visible refuses a task that the client may not see, as one that does not exist.
func (s *Service) visible(ctx context.Context, who *auth.Identity, id string) *task.Error {
	return s.permit(ctx, who, id, auth.See)
}

// permit refuses a task on which the client may do none of these verbs, as one that does not exist.
func (s *Service) permit(ctx context.Context, who *auth.Identity, id string, verbs ...auth.Verb) *task.Error {
	for _, verb := range verbs {
		if who.All(verb) {
			return nil
		}
	}
	t, refusal := s.engine.Get(ctx, id, false)
	if refusal != nil {
		return refusal
	}
	for _, verb := range verbs {
		if auth.Authorize(who, verb, auth.OfTask(&t)) {
			return nil
		}
	}
	return durable.RefuseNotFound(id)
}

// changeable refuses a change of a task that no grant allows.
func (s *Service) changeable(ctx context.Context, who *auth.Identity, verb auth.Verb, id string) *task.Error {
	if who.All(verb) {
		return nil
	}
	t, refusal := s.engine.Get(ctx, id, false)
	switch {
	case refusal != nil:
		return refusal
	case auth.Authorize(who, verb, auth.OfTask(&t)):
		return nil
	case auth.Authorize(who, auth.See, auth.OfTask(&t)):
		return Forbid(verb, "the task "+id)
	}
	return durable.RefuseNotFound(id)
}

// narrowed returns the selection of a request without the tasks on which the client may not do a verb.
func (r *Request) narrowed(verb auth.Verb) (durable.Query, *task.Error) {
	return narrow(r.query, r.who, verb)
}

// narrow returns a selection without the tasks on which a client may not do a verb.
func narrow(query durable.Query, who *auth.Identity, verb auth.Verb) (durable.Query, *task.Error) {
	switch {
	case who.All(verb):
		return query, nil
	case !auth.Any(who, verb):
		return query, Forbid(verb, "any task")
	}
	wanted := query.Allows
	query.Allows = func(t *task.Task) bool {
		return auth.Authorize(who, verb, auth.OfTask(t)) && (wanted == nil || wanted(t))
	}
	if owner, ok := who.OnlyOwn(verb); ok && query.Owner == "" {
		query.Owner = owner
	}
	return query, nil
}

// mustSee refuses a list of queues, nodes or workers to a client that may see nothing. Other clients get what they may see
// of it.
func mustSee(who *auth.Identity) *task.Error {
	if !auth.Any(who, auth.See) {
		return Forbid(auth.See, "anything")
	}
	return nil
}

// mayPause refuses to pause or resume a queue if no grant allows it.
func mayPause(who *auth.Identity, queue string) *task.Error {
	on := auth.Resource{Queue: queue}
	switch {
	case auth.Authorize(who, auth.Manage, on):
		return nil
	case auth.Authorize(who, auth.See, on):
		return Forbid(auth.Manage, "the queue "+queue)
	}
	return durable.RefuseNoQueue(queue)
}

// May reports whether a client may do a verb on the whole system.
func May(who *auth.Identity, verb auth.Verb) *task.Error {
	if auth.Authorize(who, verb, auth.Resource{}) {
		return nil
	}
	return Forbid(verb, "the whole system")
}

// mayUpload refuses an upload to a client that may neither enqueue nor work.
func mayUpload(who *auth.Identity) *task.Error {
	if auth.Any(who, auth.Enqueue) || auth.Any(who, auth.Work) {
		return nil
	}
	return Forbid(auth.Enqueue, "anything, so it uploads no payloads")
}

// Upload stores a payload for a task that is enqueued later, or the data of a result.
func (s *Service) Upload(ctx context.Context, who *auth.Identity, body io.Reader) (durable.Upload, *task.Error) {
	if refusal := mayUpload(who); refusal != nil {
		return durable.Upload{}, refusal
	}
	return s.engine.Upload(ctx, body)
}

// SignUpload returns a URL to which a payload can be PUT.
func (s *Service) SignUpload(ctx context.Context, who *auth.Identity) (durable.Signed, *task.Error) {
	if refusal := mayUpload(who); refusal != nil {
		return durable.Signed{}, refusal
	}
	return s.engine.SignUpload(ctx)
}

// Body is a body of a task: its payload or its result.
type Body struct {
	service *Service
	who     *auth.Identity
	task    string
	verbs   []auth.Verb // one of them must be allowed
	sign    func(ctx context.Context, id string) (durable.Signed, *task.Error)
	open    func(ctx context.Context, id string) (io.ReadCloser, int64, *task.Error)
}

// Payload returns the payload of a task. A worker may read it, too.
func (s *Service) Payload(who *auth.Identity, id string) Body {
	return Body{service: s, who: who, task: id, verbs: []auth.Verb{auth.See, auth.Work}, sign: s.engine.SignPayload, open: s.engine.OpenPayload}
}

// Result returns the result of a task.
func (s *Service) Result(who *auth.Identity, id string) Body {
	return Body{service: s, who: who, task: id, verbs: []auth.Verb{auth.See}, sign: s.engine.SignResult, open: s.engine.OpenResult}
}

// Sign returns a URL of the body.
func (b Body) Sign(ctx context.Context) (durable.Signed, *task.Error) {
	if refusal := b.service.permit(ctx, b.who, b.task, b.verbs...); refusal != nil {
		return durable.Signed{}, refusal
	}
	return b.sign(ctx, b.task)
}

// Open returns the body and its size.
func (b Body) Open(ctx context.Context) (io.ReadCloser, int64, *task.Error) {
	if refusal := b.service.permit(ctx, b.who, b.task, b.verbs...); refusal != nil {
		return nil, 0, refusal
	}
	return b.open(ctx, b.task)
}

// Get returns a task without its payload.
func (s *Service) Get(ctx context.Context, who *auth.Identity, id string) (task.Task, *task.Error) {
	t, refusal := s.engine.Get(ctx, id, false)
	if refusal == nil && !auth.Authorize(who, auth.See, auth.OfTask(&t)) {
		return task.Task{}, durable.RefuseNotFound(id)
	}
	return t, refusal
}
