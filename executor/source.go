package executor

import (
	"sync"

	"github.com/posta-tasks/posta/pool"
	"github.com/posta-tasks/posta/task"
)

// Source is a connection that sends tasks. The sources take turns at the slots, and the tasks of a source can be
// cancelled together. It is safe for concurrent use and needs no closing.
type Source struct {
	e     *Executor
	queue *pool.Source

	mu        sync.Mutex            // guards the fields below
	running   map[*attempt]struct{} // includes Attempts that wait for a slot
	elsewhere map[*remoteRun]struct{}
	cancelled bool

	// Refused gets a task that another node has refused. nil: the task fails with the text of the refusal. Set it before
	// the first task.
	Refused func(Task, *task.Error)
}

// NewSource returns a source.
func (e *Executor) NewSource() *Source {
	return &Source{e: e, queue: e.pool.NewSource()}
}

// TryStart runs a task in a slot and calls deliver once with the result, on any goroutine. It copies the task and
// never blocks: if too many tasks wait already, it does nothing and returns false. If no slot is free, another node may run
// the task.
func (s *Source) TryStart(t Task, deliver func(Task, []byte)) bool {
	a, weight := s.attempt(t, deliver)
	if a == nil {
		s.startElsewhere(t, deliver)
		return true
	}
	s.e.running.Add(1)
	if s.e.config.Peers != nil && s.relieve(a, weight) || s.queue.TryGo(weight, a.limit, a.run) {
		return true
	}
	s.e.running.Done()
	return false
}

// Start is TryStart, but it waits until the task may wait for a slot. It returns false if the tasks of the source
// are dropped or cancelled meanwhile. Then deliver is not called.
func (s *Source) Start(t Task, deliver func(Task, []byte)) bool {
	a, weight := s.attempt(t, deliver)
	if a == nil {
		s.startElsewhere(t, deliver)
		return true
	}
	s.e.running.Add(1)
	if s.e.config.Peers != nil && s.relieve(a, weight) || s.queue.Go(weight, a.limit, a.run) {
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

// Pause keeps the tasks that wait from starting, until Resume is called.
func (s *Source) Pause() { s.queue.Pause() }

// Resume ends a Pause.
func (s *Source) Resume() { s.queue.Resume() }

// Drop discards the tasks that wait for a slot, and returns their number. They are never delivered.
func (s *Source) Drop() int { return s.drop(false) }

// drop is Drop. With running, it also cancels the tasks that run elsewhere.
func (s *Source) drop(running bool) int {
	n := s.queue.Drop()
	s.e.running.Add(-n)
	return n + s.dropElsewhere(running)
}

// Cancel discards the tasks that wait, like Drop, and cancels those that run.
func (s *Source) Cancel() int {
	s.mu.Lock()
	s.cancelled = true
	for a := range s.running {
		a.ctx.end(endedByCancel)
	}
	s.mu.Unlock()
	return s.drop(true)
}

// add adds a running attempt.
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

// remove removes an attempt that does not run any more.
func (s *Source) remove(a *attempt) {
	s.mu.Lock()
	delete(s.running, a)
	s.mu.Unlock()
}
