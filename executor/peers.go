package executor

import (
	"context"
	"sync/atomic"

	"github.com/posta-tasks/posta/task"
)

// Peers are other nodes that run tasks for this one: tasks of actions that the node does not have, and tasks for which it
// has no free slot. It is safe for concurrent use.
type Peers interface {
	// Has reports whether a task of the action should be given to Route with task.PassedOnMissing. It is called for each
	// task whose action the node does not have, so it must be quick.
	Has(action string) bool
	// Route returns a way to a node that has the action and, for task.PassedOnFull, probably has a free slot. It returns nil
	// if there is none. The caller must call the Route.
	Route(action string, why task.PassedOn) Route
	// Unknown returns why no node runs an action, for the client.
	Unknown(action string) string
}

// Route passes a task on and returns when it has ended, or soon after ctx has ended.
type Route func(ctx context.Context, t Task) Passed

// Passed is what became of a task that was passed on. One of the fields is set.
type Passed struct {
	Result  []byte      // the result object
	Refusal *task.Error // the other node has refused the task, which has not begun
	Busy    bool        // no node has room for the task, which has not begun
	Nowhere bool        // no node has the action
}

// maxPassing is how many tasks of missing actions other nodes may have at once for this one.
const maxPassing = 4096

// pass is a task on its way to another node.
type pass struct {
	task      Task
	why       task.PassedOn
	route     Route
	deliver   func(Task, []byte)
	back      func()      // of task.PassedOnFull: runs the task here, since no other node has room; it may block
	impatient atomic.Bool // the caller does not wait for room
}

// hasPeer reports whether another node may run a task whose action the node does not have.
func (e *Executor) hasPeer(t *Task) bool {
	return t.PassedOn == "" && e.config.Peers != nil && e.config.Peers.Has(string(t.Action))
}

// relieve starts an attempt if a slot is free, and otherwise has another node run its task that has a free slot. It reports
// whether it did either. The caller counts the attempt as running.
func (s *Source) relieve(a *attempt, weight int) bool {
	if a.task.PassedOn != "" {
		return false
	}
	started, full := s.queue.GoNow(a.limit, a.run)
	if started || !full {
		return started
	}
	route := s.e.config.Peers.Route(a.entry.Name, task.PassedOnFull)
	if route == nil {
		return false
	}
	t := a.task
	t.Timeout = a.timeout()
	s.passOn(&pass{task: t, why: task.PassedOnFull, route: route, deliver: a.deliver, back: func() {
		s.e.running.Add(1)
		if !s.queue.Go(weight, a.limit, a.run) {
			s.e.running.Done()
			a.deliver(a.task, appendFailure(nil, cancelledText))
		}
	}})
	s.e.running.Done() // the pass counts by itself
	return true
}

// cancelledText is the failure of a task that was cancelled.
const cancelledText = "cancelled"

// passOnMissing passes on a task whose action the node does not have.
func (s *Source) passOnMissing(t Task, deliver func(Task, []byte)) {
	if s.e.passing.Load() >= maxPassing {
		deliver(t, appendFailure(nil, "too many runs wait for other nodes that have the action "+string(t.Action)))
		return
	}
	s.passOn(&pass{task: t, why: task.PassedOnMissing, deliver: deliver, route: s.e.toMissing(string(t.Action))})
}

// toMissing is Peers.Route for an action that the node does not have. It returns a Route in any case.
func (e *Executor) toMissing(action string) Route {
	if route := e.config.Peers.Route(action, task.PassedOnMissing); route != nil {
		return route
	}
	return func(context.Context, Task) Passed { return Passed{Nowhere: true} }
}

// passOn has another node run a task.
func (s *Source) passOn(p *pass) {
	ctx, cancel := context.WithCancel(context.Background())
	run := &remoteRun{}
	s.e.running.Add(1)
	s.e.passing.Add(1)
	if s.addElsewhere(run, func(running bool) bool {
		if running {
			cancel()
		}
		p.impatient.Store(true)
		return false
	}) {
		cancel() // the client has gone
	}
	go func() {
		defer s.e.running.Done()
		defer cancel()
		defer context.AfterFunc(s.e.stopped, cancel)()
		began := s.e.now()
		passed := p.route(ctx, p.task)
		for passed.Busy && p.why == task.PassedOnMissing && !p.impatient.Load() {
			passed = s.e.toMissing(string(p.task.Action))(ctx, p.task)
		}
		s.e.passing.Add(-1)
		s.removeElsewhere(run)
		s.settlePass(ctx, p, passed, began)
	}()
}

// settlePass answers a task that was passed on, or runs it here.
func (s *Source) settlePass(ctx context.Context, p *pass, passed Passed, began int64) {
	t, result, outcome := p.task, passed.Result, Done
	switch {
	case passed.Busy && p.why == task.PassedOnFull && !p.impatient.Load():
		p.back()
		return
	case result != nil:
		if !isSuccess(result) {
			outcome = Failed
		}
	case ctx.Err() != nil:
		result, outcome = appendFailure(nil, cancelledText), Cancelled
	case passed.Busy: // a caller that does not wait for room takes nil for that
		p.deliver(t, nil)
		return
	case passed.Nowhere:
		p.deliver(t, s.e.refuseUnknown(nil, t))
		return
	case s.Refused != nil:
		s.Refused(t, passed.Refusal)
		return
	default:
		result, outcome = appendFailure(nil, passed.Refusal.Message), Failed
	}
	s.e.sample.see(t, string(t.Action), outcome, s.e.now()-began)
	p.deliver(t, result)
}

// isSuccess reports whether a result object is that of a success.
func isSuccess(result []byte) bool {
	return len(result) >= len(successPrefix) && string(result[:len(successPrefix)-1]) == successPrefix[:len(successPrefix)-1]
}

// admitPassedOn refuses a task that another node has passed on and that this node cannot run, or not at once.
func (e *Executor) admitPassedOn(t *Task, isHere bool) *task.Error {
	isRemote := !isHere && e.hasRemote(t.Action)
	switch {
	case t.PassedOn == "":
		return nil
	case !isHere && !isRemote:
		return task.RefuseField(task.NotFound, "action", "this node does not have the action %s", t.Action)
	case t.PassedOn == task.PassedOnFull && (isHere && e.Free() == 0 || isRemote && !e.config.Remote.IsFree(string(t.Action))):
		return e.refuseFull()
	}
	return nil
}

// refuseFull refuses a task that must begin at once.
func (e *Executor) refuseFull() *task.Error {
	refusal := task.Refuse(task.Overloaded, "this node has no free slot either")
	refusal.Limit = "slots"
	return refusal
}
