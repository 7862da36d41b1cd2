package durable

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// dispatcher claims tasks for the workers that are connected to this node, pushes the tasks to them, and passes their
// outcomes to the recorder. For the node's own actions, claimer and launcher do this. A worker never gets a task of an
// action that the node has itself.
type dispatcher struct {
	*core
	pool        *worker.Pool // nil: this node has no workers
	capacity    *capacity
	claimer     *claimer
	launcher    *launcher
	recorder    *recorder
	maintenance *maintenance
	registry    *registry

	wake            wait.Signal
	done            chan struct{} // closed when there will be no more claims
	mayHaveTasks    atomic.Bool   // the store may have tasks for any worker
	mayHaveSuspects atomic.Bool   // the store may have suspects for any worker
	expectsSuspects atomic.Bool   // the store probably has suspects: keep a worker free for them
	moreSuspects    *time.Timer   // wakes the dispatcher to claim more suspects
	groups          map[*worker.Group]*claimedGroup
	probes          bool // look for suspects although no worker is free for them; only the goroutine of Run uses it

	reapWake wait.Signal // abandoned has grown

	mu        sync.Mutex // guards the field below
	abandoned []abandoned
}

// claimedGroup is a group of workers and the attempts that are claimed for it. Only the goroutine of dispatcher.Run uses it.
type claimedGroup struct {
	group *worker.Group
	ahead *prefetch
	more  bool // the store may have more tasks for it
}

// abandoned is an attempt whose worker has gone.
type abandoned struct {
	*attempt
	cause worker.Cause
}

func newDispatcher(c *core, capacity *capacity, claimer *claimer, launcher *launcher, recorder *recorder, maintenance *maintenance) *dispatcher {
	d := &dispatcher{
		core: c, pool: c.config.Workers, capacity: capacity, claimer: claimer, launcher: launcher, recorder: recorder,
		maintenance: maintenance, wake: wait.NewSignal(), done: make(chan struct{}), groups: map[*worker.Group]*claimedGroup{}, reapWake: wait.NewSignal(),
	}
	d.moreSuspects = time.AfterFunc(time.Hour, d.lookForSuspects)
	d.moreSuspects.Stop()
	return d
}

// Run claims and pushes tasks until a drain begins.
func (d *dispatcher) Run(ctx context.Context) {
	defer close(d.done)
	if d.pool == nil {
		return
	}
	d.pool.Watch(d.config.Node, d.slotsChanged)
	defer d.pool.Watch(d.config.Node, nil)
	defer d.moreSuspects.Stop()
	every := d.config.Beat
	if d.config.Shared {
		every = min(every, lookEvery)
	}
	look := time.NewTicker(every)
	defer look.Stop()
	late := time.NewTimer(prefetchPatience)
	defer late.Stop()
	for away := awayMin; ; {
		select {
		case <-d.wake:
		case <-look.C:
			d.mayHaveTasks.Store(true)
			d.mayHaveSuspects.Store(true)
			d.probes = true
		case <-late.C:
		case <-d.quit:
			for _, g := range d.groups {
				d.release(g)
			}
			return
		case <-ctx.Done():
			return
		}
		waiting, err := d.work(ctx)
		if waiting {
			late.Reset(prefetchPatience)
		}
		if err == nil {
			away = awayMin
			continue
		}
		d.counts.storeAway.Add(1)
		if !wait.For(ctx, away) {
			return
		}
		away = min(2*away, awayMax)
		d.mayHaveTasks.Store(true)
		d.wake.Set()
	}
}

// slotsChanged is called when a worker has a free slot, has connected, or has left.
func (d *dispatcher) slotsChanged(joined bool) {
	if joined {
		d.mayHaveTasks.Store(true)
		d.mayHaveSuspects.Store(true)
		d.registry.announceSoon()
	}
	d.wake.Set()
}

// look wakes the dispatcher to claim tasks, if there are workers.
func (d *dispatcher) look() {
	if d.pool == nil || d.pool.IsEmpty() || d.draining.Load() {
		return
	}
	d.mayHaveTasks.Store(true)
	d.wake.Set()
}

// offer wakes the dispatcher if a worker can run one of these tasks.
func (d *dispatcher) offer(tasks []*task.Task) {
	if d.pool == nil || d.pool.IsEmpty() {
		return
	}
	for _, t := range tasks {
		if d.draining.Load() || !d.serves(t.Action) {
			continue
		}
		if t.Suspect {
			d.expectsSuspects.Store(true)
			d.mayHaveSuspects.Store(true)
		} else {
			d.mayHaveTasks.Store(true)
		}
		d.wake.Set()
	}
}

// serves reports whether workers run an action: one of them has it, and the node does not.
func (d *dispatcher) serves(action string) bool {
	return d.pool != nil && d.pool.Has(action) && !slices.Contains(d.actions(), action)
}

// lookForSuspects makes the dispatcher ask the store for suspects.
func (d *dispatcher) lookForSuspects() {
	d.mayHaveSuspects.Store(true)
	d.wake.Set()
}

// work claims and pushes as many tasks as the workers have slots for. waiting reports whether claimed tasks wait for a
// slot.
func (d *dispatcher) work(ctx context.Context) (waiting bool, err error) {
	connected := d.pool.Groups(d.config.Node)
	for group, g := range d.groups {
		if !slices.Contains(connected, group) {
			delete(d.groups, group)
			d.release(g)
		}
	}
	all, suspects := d.mayHaveTasks.Swap(false), d.mayHaveSuspects.Swap(false)
	for _, group := range connected {
		g := d.groups[group]
		if g == nil {
			g = &claimedGroup{group: group, ahead: newPrefetch(0, d.wake.Set), more: true}
			d.groups[group] = g
		}
		g.more = g.more || all
		if suspects && err == nil {
			err = d.claimSuspects(ctx, g)
		}
		if err == nil {
			err = d.serve(ctx, g)
		}
		waiting = waiting || g.ahead.Len() > 0
	}
	d.probes = d.probes && !suspects
	return waiting, err
}

// serve pushes the claimed tasks of a group, and claims more while its workers have free slots.
func (d *dispatcher) serve(ctx context.Context, g *claimedGroup) error {
	for {
		free := g.group.Free(claimMost)
		g.ahead.SetFree(free)
		for a := g.ahead.Next(); a != nil; a = g.ahead.Next() {
			d.push(g, a)
		}
		for _, a := range g.ahead.Late(prefetchPatience) {
			d.launcher.abandon(a)
		}
		most := min(g.group.Free(claimMost)+g.ahead.Allowed()-g.ahead.Len(), claimMost)
		if !g.more || most <= 0 || d.draining.Load() || d.recorder.len() > unrecordedMost {
			return nil
		}
		n, err := d.claim(ctx, g, store.Claim{Limit: most})
		if err != nil {
			return err
		}
		g.more = n == most
		if n == 0 {
			return nil
		}
	}
}

// claim makes one claim for a group. It returns the number of tasks that it has claimed.
func (d *dispatcher) claim(life context.Context, g *claimedGroup, by store.Claim) (int, error) {
	by.Node = d.config.Node
	by.Queues = d.queues(g.group, by.Limit)
	own := d.actions()
	for _, action := range g.group.Actions {
		if !slices.Contains(own, action) {
			by.Actions = append(by.Actions, action)
		}
	}
	if len(by.Actions) == 0 {
		return 0, nil
	}
	tasks, until, err := d.claimTasks(life, by)
	if err != nil {
		return 0, err
	}
	list := make([]*attempt, len(tasks))
	for i := range tasks {
		list[i] = d.attempts.AddRemote(&tasks[i], until, g.ahead)
	}
	d.launcher.addTo(g.ahead, list)
	return len(tasks), nil
}

// queues returns how many tasks of each queue one claim for a group may return; nil means any number.
func (d *dispatcher) queues(g *worker.Group, limit int) map[string]int {
	rules := d.capacity.byQueue(limit)
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

// claimSuspects claims suspects one by one while a worker of the group can receive one. A worker runs a suspect alone until
// it has survived with it for a while.
func (d *dispatcher) claimSuspects(ctx context.Context, g *claimedGroup) error {
	for !d.draining.Load() {
		free, quarantined := g.group.FreeForSuspect(quietTime)
		if !free {
			if d.probes && !d.expectsSuspects.Load() {
				if err := d.probe(ctx, g, quarantined); err != nil {
					return err
				}
			}
			if d.expectsSuspects.Load() {
				g.group.Clear()
			}
			d.moreSuspects.Reset(task.SuspectsDoubleAfter)
			return nil
		}
		claimed, err := d.claimSuspect(ctx, g, quarantined)
		if err != nil {
			return err
		}
		if len(claimed) == 0 {
			d.expectsSuspects.Store(false)
			g.group.Cleared()
			return nil
		}
		for _, a := range claimed {
			d.push(g, a)
		}
	}
	return nil
}

// claimSuspect claims at most one suspect.
func (d *dispatcher) claimSuspect(ctx context.Context, g *claimedGroup, quarantined bool) ([]*attempt, error) {
	_, err := d.claim(ctx, g, store.Claim{Isolated: true, Quarantined: quarantined, Beside: d.attempts.AllSuspects(), Limit: 1})
	if err != nil {
		d.mayHaveSuspects.Store(true)
		return nil, err
	}
	return g.ahead.Remove(func(a *attempt) bool { return a.Task.Suspect }), nil
}

// probe finds out whether the store has suspects for workers that are all busy, and releases the one that it finds. Without
// it, nobody would keep a worker free for suspects of a process that has died.
func (d *dispatcher) probe(ctx context.Context, g *claimedGroup, quarantined bool) error {
	claimed, err := d.claimSuspect(ctx, g, quarantined)
	for _, a := range claimed {
		d.expectsSuspects.Store(true)
		d.launcher.abandon(a)
	}
	return err
}

// push sends an attempt to a worker of its group. If no worker has a free slot, it releases the task.
func (d *dispatcher) push(g *claimedGroup, a *attempt) {
	claim := claimText(a.Task.ID, a.Task.Fence)
	t := d.remoteTask(a, claim)
	t.Sign = func(holder string) string { return d.sign(claim, holder) }
	t.Payload = a.Task.Payload.Inline
	a.Task.Payload.Inline = nil // only the worker needs it
	entering := func(name, lease string) bool {
		a.worker, a.lease = name, lease
		return d.enter(a)
	}
	if !g.group.Push(t, entering) {
		d.launcher.giveUp(a)
	}
}

// remoteTask returns an attempt for the pool of workers, without its payload.
func (d *dispatcher) remoteTask(a *attempt, lease string) worker.Task {
	return worker.Task{
		Lease: lease, Action: a.Task.Action, Timeout: a.Task.Timeout, Durable: &a.Task,
		Ended:  func(e worker.Ending) { d.ended(a, e) },
		Report: func(percent float64, message string) { d.attempts.Report(a, progressOf(percent, message)) },
	}
}

// enter records that a worker receives an attempt now. If the attempt must not begin, enter ends it and returns false.
func (d *dispatcher) enter(a *attempt) bool {
	if d.launcher.enter(a, "") {
		fail.Point("push.entered")
		return true
	}
	d.launcher.abandon(a)
	return false
}

// release releases the claimed tasks of a group that are not pushed yet.
func (d *dispatcher) release(g *claimedGroup) {
	for _, a := range g.ahead.Remove(func(*attempt) bool { return true }) {
		d.launcher.abandon(a)
	}
}

// ended is called when an attempt on a worker has ended.
func (d *dispatcher) ended(a *attempt, e worker.Ending) {
	if e.Kind == worker.Gone && e.Cause != worker.Silent {
		if reason, first := d.attempts.End(a); first {
			a.ahead.Leave(a)
			if reason != stopLost {
				d.mu.Lock()
				d.abandoned = append(d.abandoned, abandoned{a, e.Cause})
				d.mu.Unlock()
				d.reapWake.Set()
			}
		}
		return
	}
	reason, first := d.attempts.End(a)
	if !first {
		d.recorder.refuseLate(a, e.Reply)
		return
	}
	a.ahead.Leave(a)
	if e.Kind == worker.Moved {
		d.attempts.Forget(a)
		return
	}
	fail.Point("outcome.read")
	if reason == stopLost {
		d.counts.dropped.Add(1)
		d.recorder.refuseLate(a, e.Reply)
		return
	}
	if e.Kind == worker.Done && (e.Blob != nil || len(e.Data) > task.InlineBytes-resultOverhead) {
		d.goroutines.Go(func() { d.finish(a, reason, e) }) // its result goes to blob storage first
		return
	}
	d.finish(a, reason, e)
}

// finishOwn ends an attempt of an action of this node with an outcome that another program sends.
func (d *dispatcher) finishOwn(a *attempt, e worker.Ending) {
	if !d.attempts.EnsureEntered(a) {
		d.recorder.refuseLate(a, e.Reply)
		return
	}
	reason, first := d.attempts.End(a)
	if !first || reason == stopLost {
		d.recorder.refuseLate(a, e.Reply)
		return
	}
	d.launcher.free(a)
	d.finish(a, reason, e)
	d.launcher.source.CancelTask([]byte(a.Task.ID), a.Task.Fence) // the action waits for that
}

// finish passes the outcome of an ended attempt to the recorder.
func (d *dispatcher) finish(a *attempt, reason stopReason, e worker.Ending) {
	outcome, refusal := d.outcome(a, reason, e)
	reply := e.Reply
	if reply != nil && refusal != nil {
		reply = func(state task.State, t *task.Task, failed *task.Error) {
			if failed == nil {
				failed = refusal
			}
			e.Reply(state, t, failed)
		}
	}
	d.recorder.putWith(a, outcome, reply)
	if d.config.limits(a.Task.Queue) {
		d.claimer.slotFreed(&a.Task)
		d.mayHaveTasks.Store(true)
		d.wake.Set()
	}
}

// outcome converts the ending of an attempt on a worker into an outcome for the store. The worker gets the refusal, if there
// is one, as the answer.
func (d *dispatcher) outcome(a *attempt, reason stopReason, e worker.Ending) (o store.Outcome, refusal *task.Error) {
	ending := executor.Ending{Outcome: executor.Failed}
	switch e.Kind {
	case worker.Done:
		if e.Blob == nil {
			ending.Outcome, ending.Result = executor.Done, executor.DataResult(e.Data)
			break
		}
		result, err := d.launcher.saveUpload(&a.Task, e.Upload, *e.Blob)
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
	case worker.Released, worker.Gone, worker.Undelivered, worker.Lost, worker.Moved:
		fail.Point("release.asked")
		o = store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Release, Uncounted: true, Delay: e.Delay}
		if reason == stopCancelled {
			o = store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Cancel}
		}
		return o, nil
	}
	o = d.launcher.outcome(&a.Task, reason, ending)
	if e.Kind == worker.Done && o.Change != task.Succeed && o.Code == task.ResultTooLarge {
		refusal = task.Refuse(task.ResultTooLarge, "%s", o.Error)
	}
	return o, refusal
}

// resultOverhead is the size of a result object without its data, in bytes.
const resultOverhead = len(executor.DataPrefix) + len("}")

// interrupt asks the worker of an attempt to stop it.
func (d *dispatcher) interrupt(a *attempt, reason stopReason) {
	switch reason {
	case stopCancelled:
		d.pool.Cancel(a.lease)
	case stopLeaseOver:
		d.pool.Lose(a.lease)
	case stopLost:
		d.goroutines.Go(func() { d.lost(a) })
	case notStopped, stopDrained: // a worker continues when its node stops
	}
}

// lost handles a lease that the store has given to another claim. If the worker itself has moved the lease to another node,
// this node forgets it. Otherwise lost asks the worker to stop.
func (d *dispatcher) lost(a *attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	t, refusal := d.get(ctx, a.Task.ID)
	if refusal == nil && t.Fence == a.Task.Fence && t.IsLeased() {
		d.pool.Forget(a.lease)
		return
	}
	d.config.Logger.Warn("lease is lost", "task", a.Task.ID, "attempt", a.Task.Attempt, "action", a.Task.Action, "worker", a.worker)
	d.pool.Lose(a.lease)
}

// Reap queues the tasks of workers that have gone again, until ctx ends.
func (d *dispatcher) Reap(ctx context.Context) {
	for {
		select {
		case <-d.reapWake:
		case <-ctx.Done():
			return
		}
		d.mu.Lock()
		list := d.abandoned
		d.abandoned = nil
		d.mu.Unlock()
		if len(list) > 0 && !d.reap(ctx, list) {
			return
		}
	}
}

// reap queues the tasks of abandoned attempts again, and repeats this until the store has done it. It returns false if ctx
// ends before.
func (d *dispatcher) reap(ctx context.Context, list []abandoned) bool {
	claims := make([]store.Held, len(list))
	for i, a := range list {
		claims[i] = store.Held{ID: a.Task.ID, Fence: a.Task.Fence}
	}
	for away := awayMin; ; away = min(2*away, awayMax) {
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		fail.Point("abandon.asked")
		maintained, err := d.config.Store.Reap(call, d.config.Node, claims, "its worker died")
		cancel()
		if err == nil {
			fail.Point("abandon.committed")
			for _, a := range list {
				d.config.Logger.Warn("a worker has gone", "worker", a.worker, "task", a.Task.ID, "attempt", a.Task.Attempt, "action", a.Task.Action, "cause", string(a.cause))
				d.attempts.Forget(a.attempt)
			}
			d.maintenance.maintained(&maintained)
			d.expectsSuspects.Store(true)
			d.lookForSuspects()
			return true
		}
		d.counts.storeAway.Add(1)
		if !wait.For(ctx, away) {
			return false
		}
	}
}

// leaveToWorkers removes the attempts that workers still hold when the node stops. It does not release their tasks, since
// the workers can take the leases to another node until these end.
func (d *dispatcher) leaveToWorkers() {
	for _, a := range d.attempts.All() {
		if a.ahead == nil {
			continue
		}
		if _, first := d.attempts.End(a); first {
			a.ahead.Leave(a)
			d.attempts.Forget(a)
		}
	}
}
