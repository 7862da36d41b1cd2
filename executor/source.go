package executor

import (
	"sync"

	"github.com/posta-tasks/posta/pool"
)

// Source is a connection as the executor sees it: its tasks take turns with those of
// others, and can be cancelled together. It is safe for concurrent use and needs no
// closing.
type Source struct {
	e     *Executor
	queue *pool.Source

	mu        sync.Mutex            // guards the two below
	running   map[*attempt]struct{} // and Attempts that wait
	cancelled bool
}

// NewSource makes a source.
func (e *Executor) NewSource() *Source {
	return &Source{e: e, queue: e.pool.NewSource()}
}

// TryStart arranges for a task to run in a slot; deliver is called with the result,
// once, on some goroutine. It makes a copy of the task and never blocks: it gives
// false, and does nothing, when as many tasks wait as may.
func (s *Source) TryStart(t Task, deliver func(Task, []byte)) bool {
	a, weight := s.attempt(t, deliver)
	if a == nil {
		deliver(t, s.e.refuseUnknown(nil, t))
		return true
	}
	s.e.running.Add(1)
	if s.queue.TryGo(weight, a.limit, a.run) {
		return true
	}
	s.e.running.Done()
	return false
}

// Start is TryStart that waits until the task may wait. It gives false, and nothing
// will be delivered, when the source's tasks are dropped or cancelled meanwhile.
func (s *Source) Start(t Task, deliver func(Task, []byte)) bool {
	a, weight := s.attempt(t, deliver)
	if a == nil {
		deliver(t, s.e.refuseUnknown(nil, t))
		return true
	}
	s.e.running.Add(1)
	if s.queue.Go(weight, a.limit, a.run) {
		return true
	}
	s.e.running.Done()
	return false
}

// attempt copies a task and prepares its attempt. It returns nil if the action is unknown.
func (s *Source) attempt(t Task, deliver func(Task, []byte)) (a *attempt, weight int) {
	entry, known := s.e.find(t.Action)
	if entry == nil {
		return nil, 0
	}
	kept := make([]byte, 0, len(t.ID)+len(t.Payload))
	kept = append(append(kept, t.ID...), t.Payload...)
	if t.ID != nil {
		t.ID = kept[:len(t.ID):len(t.ID)]
	}
	if t.Payload != nil {
		t.Payload = kept[len(t.ID):]
	}
	t.Action = []byte(entry.Name)
	return &attempt{e: s.e, source: s, deliver: deliver, task: t, entry: entry, known: known, limit: known.limit.Load()}, len(kept)
}

// Pause keeps tasks that wait from starting, until Resume.
func (s *Source) Pause() { s.queue.Pause() }

// Resume ends a Pause.
func (s *Source) Resume() { s.queue.Resume() }

// Drop forgets the tasks that still wait and says how many; they are never delivered.
func (s *Source) Drop() int {
	n := s.queue.Drop()
	s.e.running.Add(-n)
	return n
}

// Cancel forgets the tasks that wait, as Drop does, and cancels those that run.
func (s *Source) Cancel() int {
	s.mu.Lock()
	s.cancelled = true
	for a := range s.running {
		a.ctx.end(endedByCancel)
	}
	s.mu.Unlock()
	return s.Drop()
}

// add notes that an attempt runs.
func (s *Source) add(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[*attempt]struct{})
	}
	s.running[a] = struct{}{}
	if s.cancelled {
		a.ctx.end(endedByCancel)
	}
}

// remove notes that it does no more.
func (s *Source) remove(a *attempt) {
	s.mu.Lock()
	delete(s.running, a)
	s.mu.Unlock()
}
