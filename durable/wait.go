package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// pollEvery is how often tasks with subscribers are read, since events may be lost.
	pollEvery = time.Second
	// lastLookTime is the timeout of reading a task at the end of a wait.
	lastLookTime = 2 * time.Second
)

// Wait returns a task when it is finished. If ctx ends before, it returns the current task. Refusals: not_found,
// unavailable, draining, and overloaded if there are too many waits.
func (e *Engine) Wait(ctx context.Context, id string) (task.Task, *task.Error) {
	s, refusal := e.subs.Add(id, false)
	if refusal != nil {
		return task.Task{}, refusal
	}
	defer e.subs.Remove(s)
	t, refusal := e.getWith(ctx, id, false)
	if refusal != nil && ctx.Err() != nil {
		return e.lastLook(ctx, id) // ctx ended before the first read
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

// again reads a task after an event. While the store is away it returns the last known task.
func (e *Engine) again(ctx context.Context, known *task.Task) (task.Task, *task.Error) {
	t, refusal := e.getWith(ctx, known.ID, false)
	if refusal != nil && refusal.Code != task.NotFound {
		return *known, nil
	}
	return t, refusal
}

// finalOf returns the task of an event. A task without an id was deleted.
func finalOf(id string, t *task.Task) (task.Task, *task.Error) {
	if t.ID == "" {
		return task.Task{}, RefuseNotFound(id)
	}
	own := *t
	own.Payload = task.Body{}
	return own, nil
}

// lastLook reads a task although the context of the caller has ended.
func (e *Engine) lastLook(ctx context.Context, id string) (task.Task, *task.Error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLookTime)
	defer cancel()
	return e.getWith(ctx, id, false)
}

// poller reads the tasks with subscribers, since events may be lost.
type poller struct {
	*core
	subs *subscribers
	gap  wait.Signal // events were lost
}

// Run reads the tasks with subscribers once in pollEvery, until ctx ends.
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
				continue // its subscribers are answered at the end of their waits
			}
			t := &answers[i].task
			t.Payload.Inline = nil
			events = append(events, taskEvent{Task: t, ID: list[i], Attempt: t.Attempt})
		}
		p.subs.Publish(events)
		list = list[n:]
	}
}
