package durable

import (
	"context"
	"sync"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// recordMost bounds the outcomes of one Record.
const recordMost = 1_024

// outbox holds outcomes until the store has them.
type outbox struct {
	wake chan struct{}

	mu      sync.Mutex // guards the one below
	waiting []ended
}

// ended is an attempt and its outcome.
type ended struct {
	*attempt
	outcome store.Outcome
}

func (b *outbox) put(h *attempt, o store.Outcome) {
	b.mu.Lock()
	b.waiting = append(b.waiting, ended{h, o})
	b.mu.Unlock()
	poke(b.wake)
}

func (b *outbox) take() []ended {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), recordMost)
	list := b.waiting[:n:n]
	if b.waiting = b.waiting[n:]; len(b.waiting) == 0 {
		b.waiting = nil
	}
	return list
}

func (b *outbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// record writes outcomes until ctx ends, batch by batch. While the store is away they wait, and
// their leases are renewed; the guard of the attempt makes it safe to write them late.
func (e *Engine) record(ctx context.Context) {
	pace := e.sharedPace()
	for {
		select {
		case <-e.records.wake:
		case <-ctx.Done():
			return
		}
		for e.records.len() > 0 && pace.Keep(ctx, e.draining.Load() || e.records.len() >= sharedCrowd) {
			e.recordBatch(ctx, e.records.take(), false)
		}
	}
}

// recordBatch writes one batch, as often as it takes. unknown says that it may have been written already.
func (e *Engine) recordBatch(ctx context.Context, list []ended, unknown bool) {
	outcomes := make([]store.Outcome, len(list))
	for i := range list {
		outcomes[i] = list[i].outcome
		outcomes[i].EnteredAt = e.hands.EnteredAt(list[i].attempt)
	}
	e.saveProgress(ctx, list)
	for away := awayMin; ; away = min(2*away, awayMax) {
		fail.Point("record.asked")
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		answers, err := e.config.Store.Record(call, outcomes)
		cancel()
		if err == nil {
			e.recorded(list, answers, unknown)
			return
		}
		if batch.IsItemFault(err) {
			e.recordApart(ctx, list, err)
			return
		}
		unknown = unknown || task.CodeOf(err) == task.UnknownOutcome
		e.counts.storeAway.Add(1)
		e.config.Logger.Debug("outcomes are not recorded yet", "tasks", len(list), "error", err)
		if !pause(ctx, away) {
			return
		}
	}
}

// recordApart writes the outcomes of a batch that the store cannot take in halves, so that one of
// them does not keep the others. A store that could not read its answer may have written them.
func (e *Engine) recordApart(ctx context.Context, list []ended, err error) {
	if middle := len(list) / 2; middle > 0 {
		e.recordBatch(ctx, list[:middle], true)
		e.recordBatch(ctx, list[middle:], true)
		return
	}
	e.recordInstead(ctx, list[0], err)
}

// unrecordable is the error of an attempt whose outcome the store cannot keep.
const unrecordable = "the outcome of the attempt could not be recorded"

// recordInstead records that an attempt failed whose outcome the store cannot take: the task must
// not run for ever, as it would if its lease ended each time. What cannot be written either is left to
// the lease.
func (e *Engine) recordInstead(ctx context.Context, b ended, err error) {
	o := b.outcome
	plain := o.Error == unrecordable || o.Change != task.Succeed && o.Change != task.Again && o.Change != task.Fail
	if plain || e.faults.first("record", b.Task.ID) {
		e.config.Logger.Error("outcome cannot be recorded", "task", b.Task.ID,
			"attempt", b.Task.Attempt, "change", string(o.Change), "error", err)
	}
	if plain {
		e.hands.Let(b.attempt)
		poke(e.marks) // there may be room for marks
		return
	}
	if o.Change == task.Succeed {
		o.Change = task.Again
		o.Delay = b.Task.Wait(b.Task.Failures, e.config.Jitter())
	}
	o.Result, o.Code, o.Error = task.Body{}, task.ActionFailed, unrecordable
	b.outcome = o
	e.recordBatch(ctx, []ended{b}, true)
}

// recorded tells of outcomes that the store has answered. After an answer that was lost, what
// is stale may be what we wrote ourselves.
func (e *Engine) recorded(list []ended, answers []store.Recorded, unknown bool) {
	fail.Point("record.committed")
	made, told := make([]task.Task, 0, len(answers)), make([]task.Task, 0, len(answers))
	for i := range answers {
		b, a := &list[i], &answers[i]
		if a.Stale && !(unknown && isOurs(b, &a.Task)) {
			e.counts.stale.Add(1)
			e.config.Logger.Warn("outcome of an attempt that is not the running one was refused",
				"task", b.Task.ID, "attempt", b.Task.Attempt, "action", b.Task.Action, "change", string(b.outcome.Change))
		} else {
			e.counts.ended(a.Task.State)
			if made = append(made, a.Task); !b.outcome.Unentered || a.Task.State.Final() {
				told = append(told, a.Task) // of others nothing has changed
			}
		}
		e.hands.Let(b.attempt)
		if b.Task.Suspect { // only now the store lets another one be the lone suspect
			e.suspects.Store(e.config.Lone)
			poke(e.wake)
		}
	}
	e.counts.recordCalls.Add(1)
	poke(e.marks) // there may be room for marks
	e.tell(told)
	fail.Point("record.told")
	e.publish(pointers(made))
}

// isOurs tells whether a task stands as this outcome would have left it.
func isOurs(b *ended, now *task.Task) bool {
	from := task.Running
	if b.outcome.Unentered {
		from = task.Queued
	}
	to, _ := b.outcome.Change.Apply(from)
	return now.Fence == b.Task.Fence && now.Reserved == "" && now.State == to && (!now.Suspect || b.outcome.Unentered)
}

// saveProgress gives the store what actions said last, before their outcomes.
func (e *Engine) saveProgress(ctx context.Context, list []ended) {
	attempts := make([]*attempt, 0, len(list))
	for _, b := range list {
		attempts = append(attempts, b.attempt)
	}
	reported := e.hands.Unsaved(attempts)
	if len(reported) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if _, errs := e.renewLeases(ctx, reported); errs != nil {
		e.counts.storeAway.Add(1) // it is the outcome that matters
	}
}

// pointers gives a list of pointers into list.
func pointers(list []task.Task) []*task.Task {
	to := make([]*task.Task, len(list))
	for i := range list {
		to[i] = &list[i]
	}
	return to
}

// leaseEnd is when a lease ends that is granted by a call that begins now. Our clock is read
// before the call, so we never think that a lease lasts longer than it does.
func leaseEnd() time.Time { return time.Now().Add(task.LeaseTime) }
