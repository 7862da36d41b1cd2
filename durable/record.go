package durable

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// recordMost is the largest number of outcomes in one Record.
const recordMost = 1_024

// recorder records the outcomes of attempts, many in one call of the store.
type recorder struct {
	*core
	publisher *publisher
	claimer   *claimer

	wake wait.Signal

	mu      sync.Mutex // guards the field below
	waiting []recording
}

// recording is an attempt and its outcome.
type recording struct {
	*attempt
	outcome store.Outcome
	reply   func(task.State, *task.Task, *task.Error) // nil: no answer is expected
}

// put passes an outcome to the recorder.
func (r *recorder) put(a *attempt, o store.Outcome) { r.putWith(a, o, nil) }

// putWith is put. It also calls reply with the new state of the task, or a refusal, once the store has answered.
func (r *recorder) putWith(a *attempt, o store.Outcome, reply func(task.State, *task.Task, *task.Error)) {
	r.mu.Lock()
	r.waiting = append(r.waiting, recording{a, o, reply})
	r.mu.Unlock()
	r.wake.Set()
}

// refuseLate refuses an outcome that arrived after the attempt had ended.
func (r *recorder) refuseLate(a *attempt, reply func(task.State, *task.Task, *task.Error)) {
	if reply == nil {
		return
	}
	r.goroutines.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		t, refusal := r.get(ctx, a.Task.ID)
		if refusal == nil {
			refusal = refuseStale(&t, a.Task.Attempt)
		}
		reply("", nil, refusal)
	})
}

// refuseStale refuses an outcome of an attempt that is over.
func refuseStale(t *task.Task, attempt int) *task.Error {
	refusal := task.Refuse(task.Stale, "attempt %d of %s is no longer running", attempt, t.ID)
	refusal.Task, refusal.State = t.ID, string(t.State)
	return refusal
}

// next removes the next batch from those that wait.
func (r *recorder) next() []recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), recordMost)
	list := r.waiting[:n:n]
	if r.waiting = r.waiting[n:]; len(r.waiting) == 0 {
		r.waiting = nil
	}
	return list
}

// len returns the number of outcomes that are not recorded yet.
func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// Run records outcomes until ctx ends. While the store is away, outcomes wait and their leases are renewed. It is
// safe to record late, since the store checks the fence.
func (r *recorder) Run(ctx context.Context) {
	pace := r.sharedPace()
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		for r.len() > 0 && pace.Keep(ctx, r.draining.Load() || r.len() >= sharedConcurrentFrom) {
			r.record(ctx, r.next(), false)
		}
	}
}

// record writes one batch and repeats this until it succeeds. unknown says that an earlier call may have written it
// already.
func (r *recorder) record(ctx context.Context, list []recording, unknown bool) {
	outcomes := make([]store.Outcome, len(list))
	for i := range list {
		outcomes[i] = list[i].outcome
		entered := r.attempts.Note(list[i].attempt)
		outcomes[i].EnteredAt, outcomes[i].Worker, outcomes[i].Definition = entered.At, entered.Worker, entered.Definition
	}
	r.saveProgress(ctx, list)
	for away := awayMin; ; away = min(2*away, awayMax) {
		fail.Point("record.asked")
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		answers, err := r.config.Store.Record(call, outcomes)
		cancel()
		if err == nil {
			r.recorded(list, answers, unknown)
			return
		}
		if batch.IsItemFault(err) {
			r.recordHalves(ctx, list, err)
			return
		}
		unknown = unknown || task.CodeOf(err) == task.UnknownOutcome
		r.counts.storeAway.Add(1)
		r.config.Logger.Debug("outcomes are not recorded yet", "tasks", len(list), "error", err)
		if !wait.For(ctx, away) {
			return
		}
	}
}

// recordHalves writes the outcomes of a batch that the store refused one by one, so that only the faulty ones fail.
// A store whose answer was lost may have written them already.
func (r *recorder) recordHalves(ctx context.Context, list []recording, err error) {
	if middle := len(list) / 2; middle > 0 {
		r.record(ctx, list[:middle], true)
		r.record(ctx, list[middle:], true)
		return
	}
	r.recordInstead(ctx, list[0], err)
}

// unrecordable is the error of an attempt whose outcome the store refuses.
const unrecordable = "the outcome of the attempt could not be recorded"

// recordInstead records a failure of an attempt whose outcome the store refuses. Otherwise the task would run again
// whenever its lease ends. If this is refused too, the lease ends.
func (r *recorder) recordInstead(ctx context.Context, b recording, err error) {
	o := b.outcome
	plain := o.Error == unrecordable || o.Change != task.Succeed && o.Change != task.Again && o.Change != task.Fail
	if r.faults.first("record", b.Task.ID) {
		r.config.Logger.Error("outcome cannot be recorded", "task", b.Task.ID,
			"attempt", b.Task.Attempt, "change", string(o.Change), "error", err)
	}
	if plain {
		r.attempts.Forget(b.attempt)
		if b.reply != nil {
			b.reply("", nil, r.refusalOf(err))
		}
		return
	}
	if o.Change == task.Succeed {
		o.Change = task.Again
		o.Delay = b.Task.Wait(b.Task.Failures, r.config.Jitter())
	}
	o.Result, o.Code, o.Error = task.Body{}, task.ActionFailed, unrecordable
	b.outcome = o
	r.record(ctx, []recording{b}, true)
}

// recorded publishes the outcomes that the store has answered. After a lost answer, a stale outcome may be one that
// this recorder wrote itself.
func (r *recorder) recorded(list []recording, answers []store.Recorded, unknown bool) {
	fail.Point("record.committed")
	made, changed := make([]task.Task, 0, len(answers)), make([]task.Task, 0, len(answers))
	for i := range answers {
		b, a := &list[i], &answers[i]
		if a.Stale && !(unknown && isOurs(b, &a.Task)) {
			r.counts.stale.Add(1)
			r.config.Logger.Warn("outcome of an attempt that is not the running one was refused",
				"task", b.Task.ID, "attempt", b.Task.Attempt, "action", b.Task.Action, "change", string(b.outcome.Change))
		} else {
			r.counts.count(a.Task.State)
			if made = append(made, a.Task); !b.outcome.Unentered || a.Task.State.Final() {
				changed = append(changed, a.Task) // the other tasks have not changed
			}
		}
		r.attempts.Forget(b.attempt)
		if b.reply != nil {
			b.answer(a, unknown)
		}
		if b.Task.Suspect { // only now may the store return another suspect
			r.claimer.lookForSuspects()
		}
	}
	r.counts.recordCalls.Add(1)
	r.publisher.notify(changed)
	fail.Point("record.notified")
	r.publisher.publish(pointers(made))
}

// answer answers the worker that sent the outcome.
func (b *recording) answer(a *store.Recorded, unknown bool) {
	switch {
	case a.Task.ID == "":
		b.reply("", nil, RefuseNotFound(b.Task.ID))
	case a.Stale && !(unknown && isOurs(b, &a.Task)):
		b.reply("", nil, refuseStale(&a.Task, b.Task.Attempt))
	default:
		b.reply(a.Task.State, &a.Task, nil)
	}
}

// isOurs reports whether a task is as this outcome would have left it.
func isOurs(b *recording, now *task.Task) bool {
	from := task.Running
	if b.outcome.Unentered {
		from = task.Queued
	}
	to, _ := b.outcome.Change.Apply(from)
	return now.Fence == b.Task.Fence && now.Reserved == "" && now.State == to && (!now.Suspect || b.outcome.Unentered)
}

// saveProgress stores the latest progress of actions before their outcomes.
func (r *recorder) saveProgress(ctx context.Context, list []recording) {
	attempts := make([]*attempt, 0, len(list))
	for _, b := range list {
		attempts = append(attempts, b.attempt)
	}
	reported := r.attempts.TakeAllUnsaved(attempts)
	if len(reported) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if _, errs := r.renewLeases(ctx, reported); errs != nil {
		r.counts.storeAway.Add(1) // a lost progress does not matter
	}
}
