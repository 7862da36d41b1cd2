package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// pollEvery is how often tasks that are waited for are read, since events may be lost.
	pollEvery = time.Second
	// lastLookTime bounds the reading of a task for a wait whose time is over.
	lastLookTime = 2 * time.Second
)

// Wait returns a task when it is finished; when ctx ends before, the task as it stands then.
// Refusals: not_found, unavailable, overloaded when too many wait, and draining.
func (e *Engine) Wait(ctx context.Context, id string) (task.Task, *task.Error) {
	s, refusal := e.subs.Add(id, false)
	if refusal != nil {
		return task.Task{}, refusal
	}
	defer e.subs.Remove(s)
	t, refusal := e.getWith(ctx, id, false)
	if refusal != nil && ctx.Err() != nil {
		return e.lastLook(ctx, id) // there was no time for it
	}
	for refusal == nil && !t.State.Final() {
		select {
		case <-s.Signal:
			heard := s.Receive()
			if heard.Final != nil {
				return finalOf(id, heard.Final)
			}
			if heard.Missed {
				t, refusal = e.again(ctx, &t)
			}
		case <-ctx.Done():
			if now, refusal := e.lastLook(ctx, id); refusal == nil {
				return now, nil
			}
			return t, nil
		case <-e.quit:
			return t, refuseDraining(id)
		}
	}
	return t, refusal
}

// again reads a task once more, of which something was heard. While the store is away the task is
// as it was known.
func (e *Engine) again(ctx context.Context, known *task.Task) (task.Task, *task.Error) {
	t, refusal := e.getWith(ctx, known.ID, false)
	if refusal != nil && refusal.Code != task.NotFound {
		return *known, nil
	}
	return t, refusal
}

// finalOf returns the task that an event brought; one without an id has been deleted.
func finalOf(id string, t *task.Task) (task.Task, *task.Error) {
	if t.ID == "" {
		return task.Task{}, refuseNotFound(id)
	}
	own := *t
	own.Payload = task.Body{}
	return own, nil
}

// lastLook reads a task though the caller's time is over.
func (e *Engine) lastLook(ctx context.Context, id string) (task.Task, *task.Error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLookTime)
	defer cancel()
	return e.getWith(ctx, id, false)
}

// poller reads the tasks that are waited for, since events may be lost.
type poller struct {
	*core
	subs *subscribers
	gap  wait.Signal // events were lost
}

// Run reads the tasks that are waited for, once in pollEvery, until ctx ends.
func (p *poller) Run(ctx context.Context) {
	for {
		select {
		case <-p.subs.Some:
		case <-ctx.Done():
			return
		}
		for list := p.subs.WaitedFor(); len(list) > 0; list = p.subs.WaitedFor() {
			if !wait.ForOr(ctx, pollEvery, p.gap) {
				return
			}
			p.pollOnce(ctx, p.subs.WaitedFor())
		}
	}
}

func (p *poller) pollOnce(ctx context.Context, list []string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for len(list) > 0 {
		n := min(len(list), readMost)
		answers, err := p.readAll(ctx, list[:n])
		if err != nil {
			p.counts.storeAway.Add(1)
			return
		}
		events := make([]taskEvent, 0, n)
		for i := range answers {
			if answers[i].err != nil {
				continue // whoever waits for it is answered when the wait is over
			}
			t := &answers[i].task
			t.Payload.Inline = nil
			events = append(events, taskEvent{Task: t, ID: list[i], Attempt: t.Attempt})
		}
		p.subs.Publish(events)
		list = list[n:]
	}
}
