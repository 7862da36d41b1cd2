package durable

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Hub is where the engines of one process that share a store meet: what one of them does to
// a task, the others hear of at once. It is safe for concurrent use.
type Hub struct {
	mu      sync.Mutex // for those who change the list
	engines atomic.Pointer[[]*Engine]
	turn    atomic.Uint64
}

// NewHub makes a hub for engines that are about to run.
func NewHub() *Hub {
	h := &Hub{}
	h.engines.Store(&[]*Engine{})
	return h
}

// members gives the engines that run. The list is never written to.
func (h *Hub) members() []*Engine { return *h.engines.Load() }

func (h *Hub) join(e *Engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := append(slices.Clip(h.members()), e)
	h.engines.Store(&list)
}

// leave takes an engine out; whoever is first then tends from now on.
func (h *Hub) leave(e *Engine) {
	h.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(h.members()), func(other *Engine) bool { return other == e })
	h.engines.Store(&list)
	h.mu.Unlock()
	for _, other := range list {
		poke(other.tend)
		other.stir()
	}
}

// tell gives events to every engine.
func (h *Hub) tell(list []taskEvent) {
	if len(list) == 0 {
		return
	}
	for _, e := range h.members() {
		e.hear(list)
	}
}

// note has the store note that a task runs whose action an engine of the hub has entered, and tells whether that was done.
func (h *Hub) note(ctx context.Context, t *task.Task) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool {
		held := e.hands.Find(t.ID, t.Fence)
		return held != nil && e.hands.MarkOne(held, e.config.Slots) && e.note(ctx, []*attempt{held}) == nil
	})
}

// place finds tasks a place with engines that have room for them just now, and gives those that
// have none.
func (h *Hub) place(tasks []*task.Task) []*task.Task {
	members := h.members()
	first := int(h.turn.Add(1))
	for i := range members {
		tasks = members[(first+i)%len(members)].keep(tasks)
	}
	return tasks
}

// offer wakes engines that can claim these tasks, in turn, until as many slots are free as
// there are tasks. An engine that is full is not woken: it looks for more when it has room.
func (h *Hub) offer(tasks []*task.Task) {
	members := h.members()
	left, first := len(tasks), int(h.turn.Add(1))
	for i := range members {
		e := members[(first+i)%len(members)]
		if !e.wants(tasks) {
			continue
		}
		free := e.room()
		if left <= 0 && free > 0 {
			continue
		}
		e.stir()
		left -= free
	}
}

// pass lets another engine look for tasks when one has taken all that it could.
func (h *Hub) pass(from *Engine) {
	members := h.members()
	first := int(h.turn.Add(1))
	for i := range members {
		e := members[(first+i)%len(members)]
		if e != from && !e.draining.Load() && e.room() > 0 {
			e.stir()
			return
		}
	}
}

// due tells the engine that tends how long it is until something will be due.
func (h *Hub) due(wait time.Duration) {
	if members := h.members(); len(members) > 0 {
		members[0].dueIn(wait)
	}
}

// tends tells whether an engine is the one that does what is due at its time; the others look
// once in a beat.
func (h *Hub) tends(e *Engine) bool {
	members := h.members()
	return len(members) == 0 || members[0] == e
}
