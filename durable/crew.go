package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// crew claims tasks for the workers that are connected to this node, pushes them, and has their outcomes recorded. It works
// beside claimer and launcher, which do this for the node's own actions. An action that the node has itself never goes to a
// worker.
type crew struct {
	*core
	pool        *worker.Pool // nil: this node has no workers
	capacity    *capacity
	claimer     *claimer
	launcher    *launcher
	recorder    *recorder
	maintenance *maintenance

	wake        wait.Signal
	done        chan struct{} // closed when no claim will be made any more
	mayHave     atomic.Bool   // the store may have tasks for any worker
	maySuspects atomic.Bool   // the store may have suspects for any worker
	known       atomic.Bool   // there probably are some: a worker is kept free for them
	suspects    *time.Timer   // has the crew look for more of them
	teams       map[*worker.Group]*team

	mu    sync.Mutex // guards the one below
	gone  []abandoned
	taken wait.Signal // gone has grown
}

// team is a group of workers with the tasks that are claimed for it. It belongs to the goroutine of crew.Run.
type team struct {
	group *worker.Group
	ahead *prefetch
	more  bool // the store may have more tasks for it
}

// abandoned is an attempt whose worker has gone.
type abandoned struct {
	*attempt
	cause worker.Cause
}

func newCrew(c *core, capacity *capacity, claimer *claimer, launcher *launcher, recorder *recorder, maintenance *maintenance) *crew {
	w := &crew{
		core: c, pool: c.config.Workers, capacity: capacity, claimer: claimer, launcher: launcher, recorder: recorder,
		maintenance: maintenance, wake: wait.NewSignal(), done: make(chan struct{}), teams: map[*worker.Group]*team{}, taken: wait.NewSignal(),
	}
	w.suspects = time.AfterFunc(time.Hour, w.lookForSuspects)
	w.suspects.Stop()
	return w
}

// Run claims and pushes tasks until a drain begins.
func (c *crew) Run(ctx context.Context) {
	defer close(c.done)
	if c.pool == nil {
		return
	}
	c.pool.Watch(c.config.Node, c.woken)
	defer c.pool.Watch(c.config.Node, nil)
	defer c.suspects.Stop()
	every := c.config.Beat
	if c.config.Shared {
		every = min(every, lookEvery)
	}
	look := time.NewTicker(every)
	defer look.Stop()
	late := time.NewTimer(prefetchPatience)
	defer late.Stop()
	for away := awayMin; ; {
		select {
		case <-c.wake:
		case <-look.C:
			c.mayHave.Store(true)
			c.maySuspects.Store(true)
		case <-late.C:
		case <-c.quit:
			for _, t := range c.teams {
				c.giveBack(t)
			}
			return
		case <-ctx.Done():
			return
		}
		waiting, err := c.work(ctx)
		if waiting {
			late.Reset(prefetchPatience)
		}
		if err == nil {
			away = awayMin
			continue
		}
		c.counts.storeAway.Add(1)
		if !wait.For(ctx, away) {
			return
		}
		away = min(2*away, awayMax)
		c.mayHave.Store(true)
		c.wake.Set()
	}
}

// woken is called when a worker has a free slot, has connected, or has left.
func (c *crew) woken(joined bool) {
	if joined {
		c.mayHave.Store(true)
		c.maySuspects.Store(true)
	}
	c.wake.Set()
}

// offer has the crew claim if a worker has the action of one of these tasks.
func (c *crew) offer(tasks []*task.Task) {
	if c.pool == nil || c.pool.IsEmpty() {
		return
	}
	for _, t := range tasks {
		if c.draining.Load() || !c.serves(t.Action) {
			continue
		}
		if t.Suspect {
			c.known.Store(true)
			c.maySuspects.Store(true)
		} else {
			c.mayHave.Store(true)
		}
		c.wake.Set()
	}
}

// serves reports whether an action is a worker's and not the node's.
func (c *crew) serves(action string) bool {
	return c.pool != nil && c.pool.Has(action) && !slices.Contains(c.actions(), action)
}

func (c *crew) lookForSuspects() {
	c.maySuspects.Store(true)
	c.wake.Set()
}

// work pushes and claims as much as the workers can take. waiting reports whether claimed tasks wait for a slot.
func (c *crew) work(ctx context.Context) (waiting bool, err error) {
	groups := c.pool.Groups(c.config.Node)
	for group, t := range c.teams {
		if !slices.Contains(groups, group) {
			delete(c.teams, group)
			c.giveBack(t)
		}
	}
	all, suspects := c.mayHave.Swap(false), c.maySuspects.Swap(false)
	for _, group := range groups {
		t := c.teams[group]
		if t == nil {
			t = &team{group: group, ahead: newPrefetch(0, c.wake.Set), more: true}
			c.teams[group] = t
		}
		t.more = t.more || all
		if suspects && err == nil {
			err = c.claimSuspects(ctx, t)
		}
		if err == nil {
			err = c.serve(ctx, t)
		}
		waiting = waiting || t.ahead.Len() > 0
	}
	return waiting, err
}

// serve pushes what is claimed for a group, and claims more while its workers have free slots.
func (c *crew) serve(ctx context.Context, t *team) error {
	for {
		free := t.group.Free()
		t.ahead.SetFree(free)
		for a := t.ahead.Next(); a != nil; a = t.ahead.Next() {
			c.push(t, a)
		}
		for _, a := range t.ahead.Late(prefetchPatience) {
			c.launcher.abandon(a)
		}
		most := min(t.group.Free()+t.ahead.Allowed()-t.ahead.Len(), claimMost)
		if !t.more || most <= 0 || c.draining.Load() || c.recorder.len() > unrecordedMost {
			return nil
		}
		n, err := c.claim(ctx, t, store.Claim{Limit: most})
		if err != nil {
			return err
		}
		t.more = n == most
		if n == 0 {
			return nil
		}
	}
}

// claim makes one claim for a group. It returns the number of tasks.
func (c *crew) claim(life context.Context, t *team, by store.Claim) (int, error) {
	by.Node = c.config.Node
	by.Queues = c.queues(t.group, by.Limit)
	own := c.actions()
	for _, action := range t.group.Actions {
		if !slices.Contains(own, action) {
			by.Actions = append(by.Actions, action)
		}
	}
	if len(by.Actions) == 0 {
		return 0, nil
	}
	tasks, until, err := c.claimTasks(life, by)
	if err != nil {
		return 0, err
	}
	list := make([]*attempt, len(tasks))
	for i := range tasks {
		list[i] = c.attempts.AddRemote(&tasks[i], until, t.ahead)
	}
	c.launcher.addTo(t.ahead, list)
	return len(tasks), nil
}

// queues returns how many tasks of each queue a claim for a group may take; nil means any.
func (c *crew) queues(g *worker.Group, limit int) map[string]int {
	rules := c.capacity.byQueue(limit)
	if g.Queues == nil {
		return rules
	}
	queues := make(map[string]int, len(g.Queues))
	for _, queue := range g.Queues {
		queues[queue] = limit
		if rules != nil {
			queues[queue] = ofQueue(rules, queue)
		}
	}
	return queues
}

// claimSuspects claims tasks that ran when a process died, one after another, as long as a worker of the group can receive
// one: a suspect is alone with its worker until the worker has lived with it for a while.
func (c *crew) claimSuspects(ctx context.Context, t *team) error {
	for !c.draining.Load() {
		free, quarantined := t.group.FreeForSuspect(quietTime)
		if !free {
			if c.known.Load() {
				t.group.Clear()
			}
			c.suspects.Reset(task.SuspectsDoubleAfter)
			return nil
		}
		n, err := c.claim(ctx, t, store.Claim{Isolated: true, Quarantined: quarantined, Beside: c.attempts.AllSuspects(), Limit: 1})
		if err != nil {
			c.maySuspects.Store(true)
			return err
		}
		if n == 0 {
			c.known.Store(false)
			t.group.Cleared()
			return nil
		}
		for _, a := range t.ahead.Remove(func(a *attempt) bool { return a.Task.Suspect }) {
			c.push(t, a)
		}
	}
	return nil
}

// push gives an attempt to a worker of its group. If none has a slot, the task goes back.
func (c *crew) push(t *team, a *attempt) {
	pushed := c.given(a)
	pushed.Payload = a.Task.Payload.Inline
	a.Task.Payload.Inline = nil // the worker has it
	if !t.group.Push(pushed, func(name string) bool { return c.enter(a, name) }) {
		c.launcher.giveUp(a)
	}
}

// given returns an attempt as it is given to a worker, without its payload.
func (c *crew) given(a *attempt) worker.Task {
	a.lease = fmt.Sprintf("%s.%d", a.Task.ID, a.Task.Fence)
	return worker.Task{
		Lease: a.lease, Action: a.Task.Action, Timeout: a.Task.Timeout, Durable: &a.Task,
		Ended:  func(e worker.Ending) { c.ended(a, e) },
		Report: func(percent float64, message string) { c.attempts.Report(a, progressOf(percent, message)) },
	}
}

// enter notes that a worker receives an attempt now. It returns false, and the attempt has ended, if it must not begin.
func (c *crew) enter(a *attempt, name string) bool {
	a.worker = name
	if c.launcher.enter(a) {
		return true
	}
	c.launcher.abandon(a)
	return false
}

// giveBack releases the attempts that wait for a worker of a group.
func (c *crew) giveBack(t *team) {
	for _, a := range t.ahead.Remove(func(*attempt) bool { return true }) {
		c.launcher.abandon(a)
	}
}

// ended ends an attempt that a worker had.
func (c *crew) ended(a *attempt, e worker.Ending) {
	if e.Kind == worker.Gone && e.Cause != worker.Silent {
		if reason, first := c.attempts.End(a); first {
			a.ahead.Leave(a)
			if reason != stopLost {
				c.mu.Lock()
				c.gone = append(c.gone, abandoned{a, e.Cause})
				c.mu.Unlock()
				c.taken.Set()
			}
		}
		return
	}
	reason, first := c.attempts.End(a)
	if !first {
		c.recorder.refuseLate(a, e.Reply)
		return
	}
	a.ahead.Leave(a)
	if e.Kind == worker.Elsewhere {
		c.attempts.Forget(a)
		return
	}
	if reason == stopLost {
		c.counts.dropped.Add(1)
		c.recorder.refuseLate(a, e.Reply)
		return
	}
	if e.Kind == worker.Done && (e.Blob != nil || len(e.Data) > task.InlineBytes-resultOverhead) {
		c.goroutines.Go(func() { c.finish(a, reason, e) }) // its result goes to blob storage first
		return
	}
	c.finish(a, reason, e)
}

// finish has the outcome of an attempt recorded that has ended.
func (c *crew) finish(a *attempt, reason stopReason, e worker.Ending) {
	outcome, refusal := c.outcome(a, reason, e)
	reply := e.Reply
	if reply != nil && refusal != nil {
		reply = func(state task.State, t *task.Task, failed *task.Error) {
			if failed == nil {
				failed = refusal
			}
			e.Reply(state, t, failed)
		}
	}
	c.recorder.putWith(a, outcome, reply)
	if c.config.limits(a.Task.Queue) {
		c.claimer.slotFreed(&a.Task)
		c.mayHave.Store(true)
		c.wake.Set()
	}
}

// outcome returns the outcome of an attempt that a worker had. If there is a refusal, it is the answer to the worker.
func (c *crew) outcome(a *attempt, reason stopReason, e worker.Ending) (o store.Outcome, refusal *task.Error) {
	ending := executor.Ending{Outcome: executor.Failed}
	switch e.Kind {
	case worker.Done:
		if e.Blob == nil {
			ending.Outcome, ending.Result = executor.Done, executor.DataResult(e.Data)
			break
		}
		result, err := c.launcher.saveUpload(&a.Task, e.Upload, *e.Blob)
		if err == nil {
			return store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Succeed, Result: result}, nil
		}
		ending.Err = err
	case worker.Failed:
		ending.Err = errors.New(e.Error)
		if e.Permanent {
			ending.Err = actions.Permanent(ending.Err)
		} else if e.RetryAfter != 0 {
			ending.Err = actions.RetryAfter(ending.Err, max(e.RetryAfter, 0))
		}
		if reason == stopLeaseOver || reason == stopDrained {
			reason = notStopped
		}
	case worker.TimedOut:
		ending.Outcome, ending.Err = executor.TimedOut, errors.New(executor.TimedOutText(a.Task.Timeout))
	case worker.Cancelled:
		ending.Outcome, ending.Err = executor.Cancelled, errors.New("cancelled")
	case worker.Released, worker.Gone, worker.Unwritten, worker.Lost, worker.Elsewhere:
		o = store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Release, Uncounted: true, Delay: e.Delay}
		if reason == stopCancelled {
			o = store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Cancel}
		}
		return o, nil
	}
	o = c.launcher.outcome(&a.Task, reason, ending)
	if e.Kind == worker.Done && o.Change != task.Succeed && o.Code == task.ResultTooLarge {
		refusal = task.Refuse(task.ResultTooLarge, "%s", o.Error)
	}
	return o, refusal
}

// resultOverhead is how many bytes a result object has beside its data.
const resultOverhead = len(executor.DataPrefix) + len("}")

// interrupt has an attempt stopped whose action was entered.
func (c *crew) interrupt(a *attempt, reason stopReason) {
	switch reason {
	case stopCancelled:
		c.pool.Cancel(a.lease)
	case stopLeaseOver:
		c.pool.Lose(a.lease)
	case stopLost:
		c.goroutines.Go(func() { c.lost(a) })
	case notStopped, stopDrained: // a worker goes on when its node stops
	}
}

// lost tells a worker that its lease is lost, unless the worker itself has named the lease to another node.
func (c *crew) lost(a *attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	t, refusal := c.get(ctx, a.Task.ID)
	if refusal == nil && t.Fence == a.Task.Fence && t.IsLeased() {
		c.pool.Forget(a.lease)
		return
	}
	c.config.Logger.Warn("lease is lost", "task", a.Task.ID, "attempt", a.Task.Attempt, "action", a.Task.Action, "worker", a.worker)
	c.pool.Lose(a.lease)
}

// Reap takes tasks back whose workers have gone, until ctx ends.
func (c *crew) Reap(ctx context.Context) {
	for {
		select {
		case <-c.taken:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		list := c.gone
		c.gone = nil
		c.mu.Unlock()
		if len(list) > 0 && !c.reap(ctx, list) {
			return
		}
	}
}

// reap takes tasks back, as often as it takes. It returns false if ctx ends.
func (c *crew) reap(ctx context.Context, list []abandoned) bool {
	claims := make([]store.Held, len(list))
	for i, a := range list {
		claims[i] = store.Held{ID: a.Task.ID, Fence: a.Task.Fence}
	}
	for away := awayMin; ; away = min(2*away, awayMax) {
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		tended, err := c.config.Store.Reap(call, c.config.Node, claims, "its worker died")
		cancel()
		if err == nil {
			for _, a := range list {
				c.config.Logger.Warn("a worker has gone", "worker", a.worker, "task", a.Task.ID, "attempt", a.Task.Attempt, "action", a.Task.Action, "cause", string(a.cause))
				c.attempts.Forget(a.attempt)
			}
			c.maintenance.tended(&tended)
			c.known.Store(true)
			c.lookForSuspects()
			return true
		}
		c.counts.storeAway.Add(1)
		if !wait.For(ctx, away) {
			return false
		}
	}
}

// leaveBehind ends the attempts that workers still have when the node stops. They are not given back: their workers hold
// them, and can name them to another node until the leases end.
func (c *crew) leaveBehind() {
	for _, a := range c.attempts.All() {
		if a.ahead == nil {
			continue
		}
		if _, first := c.attempts.End(a); first {
			a.ahead.Leave(a)
			c.attempts.Forget(a)
		}
	}
}
