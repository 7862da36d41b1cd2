package durable

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// pollEvery is how often tasks that are waited for are read, since events may be lost.
	pollEvery = time.Second
	// pollMost bounds the tasks that are read each time; if more are waited for, they
	// take turns.
	pollMost = 2_000
	// entriesMost bounds the entries that a watch keeps for its reader; who is slower than that
	// gets them from the store.
	entriesMost = 64
	// lastLookTime bounds the reading of a task for a wait whose time is over.
	lastLookTime = 2 * time.Second
)

// Wait gives a task when it is finished; when ctx ends before, the task as it stands then.
// Refusals: not_found, unavailable, overloaded when too many wait, and draining.
func (e *Engine) Wait(ctx context.Context, id string) (task.Task, *task.Error) {
	s, refusal := e.subs.add(id, false)
	if refusal != nil {
		return task.Task{}, refusal
	}
	defer e.subs.remove(s)
	t, refusal := e.Get(ctx, id, false)
	if refusal != nil && ctx.Err() != nil {
		return e.lastLook(ctx, id) // there was no time for it
	}
	for refusal == nil && !t.State.Final() {
		select {
		case <-s.signal:
			if heard := s.take(); heard.final != nil {
				return finalOf(id, heard.final)
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

// finalOf gives the task that an event brought; one without an id has been deleted.
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
	return e.Get(ctx, id, false)
}

// sub is somebody who wants to hear of a task.
type sub struct {
	id     string
	all    bool // entries and progress, too
	signal chan struct{}

	mu    sync.Mutex // guards the one below
	heard heard
}

// heard is what a sub has not taken yet.
type heard struct {
	entries  []task.Entry
	missed   bool // entries were more than are kept
	progress *task.Progress
	attempt  int        // of the progress
	final    *task.Task // with an empty ID: it was deleted
}

// take takes what was heard.
func (s *sub) take() heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heard
	s.heard = heard{}
	return h
}

func (s *sub) hear(ev *event) {
	s.mu.Lock()
	h := &s.heard
	switch {
	case ev.task == nil && s.all:
		p := ev.progress
		h.progress, h.attempt = &p, ev.attempt
	case ev.task != nil:
		if s.all && len(h.entries)+len(ev.task.History) > entriesMost {
			h.entries, h.missed = nil, true
		} else if s.all {
			h.entries = append(h.entries, ev.task.History...)
		}
		if ev.task.State.Final() || ev.task.ID == "" {
			h.final = ev.task
		}
	}
	s.mu.Unlock()
	poke(s.signal)
}

// subs are all who want to hear. It is safe for concurrent use.
type subs struct {
	most int
	some chan struct{} // poked when somebody comes

	mu       sync.Mutex // guards all below
	byID     map[string][]*sub
	count    int
	draining bool
}

func newSubs(most int) *subs {
	return &subs{most: most, some: make(chan struct{}, 1), byID: make(map[string][]*sub)}
}

func (s *subs) add(id string, all bool) (*sub, *task.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, refuseDraining(id)
	}
	if s.count >= s.most {
		refusal := task.Refuse(task.Overloaded, "%d waits and watches are open already", s.count)
		refusal.Limit, refusal.RetryAfter = fmt.Sprintf("%d waits", s.most), time.Second
		return nil, refusal
	}
	one := &sub{id: id, all: all, signal: make(chan struct{}, 1)}
	s.byID[id] = append(s.byID[id], one)
	s.count++
	poke(s.some)
	return one, nil
}

func (s *subs) remove(one *sub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byID[one.id]
	for i := range list {
		if list[i] == one {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			s.count--
			break
		}
	}
	if s.byID[one.id] = list; len(list) == 0 {
		delete(s.byID, one.id)
	}
}

// hear passes events on to whoever wants them.
func (s *subs) hear(list []event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	for i := range list {
		for _, one := range s.byID[list[i].id] {
			one.hear(&list[i])
		}
	}
}

// drain refuses who comes from now on; who is there sees the engine's quit.
func (s *subs) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

// waitedFor gives ids of tasks that somebody wants to hear of; when there are many, another
// selection each time, as the order of a map is.
func (s *subs) waitedFor() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for id := range s.byID {
		if list = append(list, id); len(list) == pollMost {
			break
		}
	}
	return list
}

// poll reads what is waited for once a second until ctx ends.
func (e *Engine) poll(ctx context.Context) {
	for {
		select {
		case <-e.subs.some:
		case <-ctx.Done():
			return
		}
		for list := e.subs.waitedFor(); len(list) > 0; list = e.subs.waitedFor() {
			if !pause(ctx, pollEvery) {
				return
			}
			e.pollOnce(ctx, e.subs.waitedFor())
		}
	}
}

func (e *Engine) pollOnce(ctx context.Context, list []string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for len(list) > 0 {
		n := min(len(list), readMost)
		tasks, err := e.config.Store.Get(ctx, list[:n])
		if err != nil {
			e.counts.storeAway.Add(1)
			return
		}
		found := make([]event, 0, n)
		for i := range tasks {
			tasks[i].Payload.Inline = nil
			found = append(found, event{task: &tasks[i], id: list[i], attempt: tasks[i].Attempt})
		}
		e.subs.hear(found)
		list = list[n:]
	}
}
