package durable

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Hub connects the engines of one process that share a store. Each engine notifies the others at once of changes of
// tasks. It is safe for concurrent use.
type Hub struct {
	mu      sync.Mutex // held while the list is changed
	engines atomic.Pointer[[]*Engine]
	turn    atomic.Uint64
}

// NewHub returns a hub.
func NewHub() *Hub {
	h := &Hub{}
	h.engines.Store(&[]*Engine{})
	return h
}

// members returns the running engines. The list is never changed in place.
func (h *Hub) members() []*Engine { return *h.engines.Load() }

// inTurn yields the members, each time starting with the next one.
func (h *Hub) inTurn() iter.Seq[*Engine] {
	return func(yield func(*Engine) bool) {
		members, first := h.members(), h.turn.Add(1)
		for i := range members {
			if !yield(members[(first+uint64(i))%uint64(len(members))]) {
				return
			}
		}
	}
}

func (h *Hub) join(e *Engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := append(slices.Clip(h.members()), e)
	h.engines.Store(&list)
}

// leave removes an engine. The first of the others takes over the maintenance.
func (h *Hub) leave(e *Engine) {
	h.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(h.members()), func(other *Engine) bool { return other == e })
	h.engines.Store(&list)
	h.mu.Unlock()
	for _, other := range list {
		other.maintenance.wake.Set()
		other.claimer.look()
		other.dispatcher.slotsChanged(true)
	}
}

// notify passes events to every engine.
func (h *Hub) notify(list []taskEvent) {
	if len(list) == 0 {
		return
	}
	for _, e := range h.members() {
		e.receive(list)
	}
}

// note makes the store record that a task runs, if an engine of the hub has entered its action. It reports whether
// that was done.
func (h *Hub) note(ctx context.Context, t *task.Task) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool {
		a := e.attempts.Find(t.ID, t.Fence)
		return a != nil && e.attempts.MarkOne(a, e.config.Slots+e.attempts.Remote()) && e.marker.note(ctx, []*attempt{a}) == nil
	})
}

// place passes tasks to engines with free slots, and returns the others.
func (h *Hub) place(tasks []*task.Task) []*task.Task {
	h.offerWorkers(tasks)
	for e := range h.inTurn() {
		tasks = e.claimer.keep(tasks)
	}
	return tasks
}

// offer wakes engines that can claim these tasks, in turn, until there are enough free slots. It does not wake a
// full engine, which looks for more tasks when it has a free slot.
func (h *Hub) offer(tasks []*task.Task) {
	left := len(tasks)
	h.offerWorkers(tasks)
	for e := range h.inTurn() {
		if !e.claimer.wants(tasks) {
			continue
		}
		free := e.claimer.capacity.free()
		if left <= 0 && free > 0 {
			continue
		}
		e.claimer.look()
		left -= free
	}
}

// offerWorkers has the engines claim tasks for their workers.
func (h *Hub) offerWorkers(tasks []*task.Task) {
	for _, e := range h.members() {
		e.dispatcher.offer(tasks)
	}
}

// lookElsewhere makes another engine look for tasks after one has claimed as many as it could.
func (h *Hub) lookElsewhere(from *claimer) {
	for e := range h.inTurn() {
		if e.claimer != from && !e.draining.Load() && e.claimer.capacity.free() > 0 {
			e.claimer.look()
			return
		}
	}
}

// due tells the engine that does the maintenance how soon something is due.
func (h *Hub) due(wait time.Duration) {
	if members := h.members(); len(members) > 0 {
		members[0].maintenance.dueIn(wait)
	}
}

// maintains reports whether an engine is the one that does the maintenance at its time. The others look once in a
// Beat.
func (h *Hub) maintains(m *maintenance) bool {
	members := h.members()
	return len(members) == 0 || members[0].maintenance == m
}

// has reports whether an engine of the hub has this node name.
func (h *Hub) has(node string) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool { return e.config.Node == node })
}

// hasAttempt reports whether an engine of the hub has an attempt of a task.
func (h *Hub) hasAttempt(id string) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool { return e.attempts.Has(id) })
}
