package service

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
	"github.com/posta-tasks/posta/worker"
)

// Workers carries out the requests of workers, once for all doors. It is safe for concurrent use.
type Workers struct {
	Pool   *worker.Pool
	Engine *durable.Engine // nil: without a store there are direct runs only
	Node   string
}

// Unavailable returns the refusal of a request of a worker if the node takes no workers, that is, if w is nil. Each door
// calls it before any other method.
func (w *Workers) Unavailable() *task.Error {
	if w == nil {
		return task.Refuse(task.Unavailable, "this node takes no workers")
	}
	return nil
}

// List returns the workers that are connected to the nodes of this process. There is no op for it.
func (w *Workers) List(who *auth.Identity) (Reply, *task.Error) {
	if refusal := mustSee(who); refusal != nil {
		return Reply{}, refusal
	}
	if !auth.Authorize(who, auth.See, auth.Resource{}) {
		return Reply{result: wire.AppendWorkers(nil, nil)}, nil
	}
	return Reply{result: wire.AppendWorkers(nil, w.Pool.List(""))}, nil
}

// Quiet stops pushes to a worker. There is no op for it.
func (w *Workers) Quiet(who *auth.Identity, name string) (Reply, *task.Error) {
	refusal := May(who, auth.Manage)
	if refusal != nil && auth.Authorize(who, auth.See, auth.Resource{}) {
		return Reply{}, refusal
	}
	if refusal != nil || !w.Pool.Quiet(name) {
		return Reply{}, task.RefuseField(task.NotFound, "worker", "no worker %s is connected to this process", name)
	}
	return Reply{result: wire.AppendQuieted(nil, name)}, nil
}

// MayWork refuses a worker whose actions are not all allowed, in all the queues that it names.
func MayWork(who *auth.Identity, actions, queues []string) *task.Error {
	if who.All(auth.Work) {
		return nil
	}
	if queues == nil || slices.Contains(queues, "*") {
		queues = []string{""}
	}
	for _, action := range actions {
		for _, queue := range queues {
			if auth.Authorize(who, auth.Work, auth.Resource{Action: action, Queue: queue}) {
				continue
			}
			if queue == "" {
				queue = "*; a worker that names its queues needs no more"
			}
			return Forbid(auth.Work, "the action "+action+" in the queue "+queue)
		}
	}
	if len(actions) == 0 && !auth.Any(who, auth.Work) {
		return Forbid(auth.Work, "any action")
	}
	return nil
}

// holderOf returns a client as one that answers a lease which no worker of this process holds, or takes it over.
func holderOf(who *auth.Identity) durable.Holder {
	return durable.Holder{Name: who.Holder(), May: func(t *task.Task) bool {
		return auth.Authorize(who, auth.Work, auth.Resource{Action: t.Action, Queue: t.Queue})
	}}
}

// Join adds a worker that MayWork and sends the first line of its stream. The caller closes the stream, even if that line is a refusal.
// send and idle are those of worker.Options.
func (w *Workers) Join(ctx context.Context, r *wire.Request, who *auth.Identity, send func([]byte), idle func()) *worker.Stream {
	asked := &r.Work
	s, held, unknown := w.Pool.Join(worker.Options{
		ID: bytes.Clone(r.ID), Name: asked.Worker, Node: w.Node, Token: who.Holder(), Actions: asked.Actions, Queues: asked.Queues, Slots: asked.Slots,
		Version: asked.Version, Hold: asked.Hold, Grace: max(asked.Grace, 0), Idempotent: asked.Idempotent, Send: send, Idle: idle,
	})
	var refusal *task.Error
	if len(unknown) > 0 && w.Engine != nil {
		var adopted []string
		adopted, refusal = w.Engine.Adopt(context.WithoutCancel(ctx), s, unknown, holderOf(who))
		held = append(held, adopted...)
	}
	if refusal != nil { // the worker sends its request again, and keeps its leases until then
		s.Refuse(wire.AppendError(nil, s.ID, refusal))
		return s
	}
	var lost []string
	if asked.Hold != nil {
		lost = missing(asked.Hold, held)
		if held == nil {
			held = []string{}
		}
	}
	s.Open(wire.AppendReady(nil, s.ID, s.Name, w.Node, s.Slots, held, lost))
	return s
}

// Poll waits for tasks for a worker without a connection, and returns the answer. The caller calls giveBack if it cannot
// deliver the answer. If ctx ends, the tasks are given back already.
func (w *Workers) Poll(ctx context.Context, r *wire.Request, who *auth.Identity) (answer []byte, giveBack func(), refusal *task.Error) {
	asked := &r.Work
	if refusal := MayWork(who, asked.Actions, asked.Queues); refusal != nil {
		return nil, nil, refusal
	}
	polled, refusal := w.Pool.Poll(ctx, worker.Options{
		Name: asked.Worker, Node: w.Node, Token: who.Holder(), Actions: asked.Actions, Queues: asked.Queues, Slots: asked.Slots, Version: asked.Version,
	}, asked.Wait, asked.LeaseTime)
	if refusal != nil {
		return nil, nil, refusal
	}
	return wire.AppendPoll(nil, polled.Worker, polled.Tasks), func() { w.Pool.GiveBack(polled) }, nil
}

// Beat extends the leases that a worker without a connection names. It adopts those that other nodes granted.
func (w *Workers) Beat(ctx context.Context, r *wire.Request, who *auth.Identity) (answer []byte, refusal *task.Error) {
	if refusal := MayWork(who, nil, nil); refusal != nil {
		return nil, refusal
	}
	asked, token := &r.Work, who.Holder()
	cancelling, lost, unknown := w.Pool.Beat(token, asked.Worker, asked.Leases)
	if len(unknown) > 0 && w.Engine != nil {
		s, refusal := w.Pool.Poller(w.Node, token, asked.Worker, asked.LeaseTime)
		if refusal != nil {
			return nil, refusal
		}
		adopted, refusal := w.Engine.Adopt(context.WithoutCancel(ctx), s, unknown, holderOf(who))
		s.CloseIfUnused()
		if refusal != nil {
			return nil, refusal
		}
		more, over, gone := w.Pool.Beat(token, asked.Worker, adopted)
		cancelling = append(cancelling, more...)
		lost = slices.Concat(lost, missing(unknown, adopted), over, gone)
	}
	return wire.AppendBeat(nil, cancelling, lost), nil
}

// missing returns the elements of all that are not in some.
func missing(all, some []string) []string {
	have := make(map[string]bool, len(some))
	for _, text := range some {
		have[text] = true
	}
	list := []string{}
	for _, text := range all {
		if !have[text] {
			list = append(list, text)
		}
	}
	return list
}

// EndingOf returns the outcome in a done, fail or release. It shares no memory with the line.
func EndingOf(r *wire.Request) (worker.Ending, *task.Error) {
	asked := &r.Work
	switch r.Op {
	case wire.OpFinish:
		e := worker.Ending{Kind: worker.Done, Data: bytes.Clone(asked.Data)}
		if asked.DataBlob == nil {
			return e, nil
		}
		upload, refusal := readUpload(asked.DataBlob)
		if refusal != nil {
			refusal.Field, refusal.Message = "data_blob", strings.ReplaceAll(refusal.Message, "payload_blob", "data_blob")
			return e, refusal
		}
		e.Blob, e.Upload = &upload.Body, upload.Task
		return e, nil
	case wire.OpFail:
		return worker.Ending{Kind: worker.Failed, Error: asked.Error, Permanent: !asked.Retry, RetryAfter: asked.RetryAfter}, nil
	}
	return worker.Ending{Kind: worker.Released, Delay: max(r.Options.Delay, 0)}, nil
}

// Finish ends the attempt of a lease. who is the worker. reply is called once with the answer when the
// outcome is stored, on any goroutine and perhaps before Finish returns. It must not block. If Finish returns a refusal,
// reply is not called. If it returns elsewhere, this node does not have the lease: the caller must call elsewhere, which
// calls the store and blocks until then.
func (w *Workers) Finish(r *wire.Request, who *auth.Identity, reply func(line []byte, refusal *task.Error)) (elsewhere func(), refusal *task.Error) {
	if refusal := MayWork(who, nil, nil); refusal != nil {
		return nil, refusal
	}
	id, lease := bytes.Clone(r.ID), string(r.Work.Lease)
	answer := func(state task.State, t *task.Task, refusal *task.Error) {
		if refusal != nil {
			reply(wire.AppendLeaseError(nil, id, lease, refusal), refusal)
			return
		}
		reply(wire.AppendEnded(nil, id, lease, state, t), nil)
	}
	ending, refusal := EndingOf(r)
	if refusal != nil {
		return nil, refusal
	}
	ending.Reply = answer
	switch w.Pool.Finish(r.Work.Lease, who.Holder(), ending) {
	case worker.Foreign:
		return nil, worker.RefuseForeign(lease)
	case worker.Unknown:
		if w.Engine == nil {
			return nil, worker.RefuseUnknown(lease)
		}
		return func() { w.Engine.FinishLease(context.Background(), lease, holderOf(who), ending) }, nil
	case worker.Accepted:
	}
	return nil, nil
}

// ReportAnywhere is Report for a worker whose requests may reach any node. If another node has the lease, ReportAnywhere
// drops the progress and returns no refusal.
func (w *Workers) ReportAnywhere(ctx context.Context, r *wire.Request, who *auth.Identity) *task.Error {
	refusal := w.Report(r, who)
	if refusal == nil || w.Engine == nil || refusal.Code == task.Forbidden {
		return refusal
	}
	_, refusal = w.Engine.TaskOfLease(ctx, string(r.Work.Lease), holderOf(who))
	return refusal
}

// Report passes on the progress of an attempt. It refuses with stale if no worker of this process with this token holds the
// lease.
func (w *Workers) Report(r *wire.Request, who *auth.Identity) *task.Error {
	if refusal := MayWork(who, nil, nil); refusal != nil {
		return refusal
	}
	if w.Pool.Report(r.Work.Lease, who.Holder(), r.Work.Percent, r.Work.Message) {
		return nil
	}
	return task.RefuseField(task.Stale, "lease", "no attempt with the lease %s runs here", r.Work.Lease)
}
