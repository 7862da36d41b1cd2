package durable

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// registry keeps the row of this node, and knows which other nodes live.
type registry struct {
	*core
	pauses  *pauses
	crew    *crew
	started time.Time
	rates   rates

	nodes      atomic.Pointer[[]store.Node] // as of the last beat
	quietBeats atomic.Int64                 // since a node has started
}

// Nodes returns the nodes that are alive, by name.
func (e *Engine) Nodes(ctx context.Context) ([]store.Node, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := e.config.Store.Nodes(ctx)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	return list, nil
}

// beat tells the store that the node is alive, and looks who else is. It tells whether the store
// has answered.
func (r *registry) beat(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	err := r.pauses.read(ctx)
	if err == nil { // before the row says which version the node heeds
		err = r.config.Store.Beat(ctx, r.self())
	}
	if err != nil {
		r.counts.storeAway.Add(1)
		return false
	}
	if list, err := r.config.Store.Nodes(ctx); err == nil {
		r.noteStarts(list)
		r.nodes.Store(&list)
	}
	if list, err := r.config.Store.Queues(ctx); err == nil {
		r.rates.Note(time.Now(), list)
	}
	return true
}

// quietTime is how long no process may have started before an accused task is claimed. It is the
// time in which a death is noticed at the latest.
const quietTime = task.LeaseTime

// noteStarts counts the beats since a node has started, or has come back. Beats are counted and not
// time, so that a process that was stopped for a while has not been calm meanwhile.
func (r *registry) noteStarts(list []store.Node) {
	known := r.nodes.Load()
	for i := range list {
		same := func(n store.Node) bool { return n.Name == list[i].Name && n.Started.Equal(list[i].Started) }
		if known == nil || !slices.ContainsFunc(*known, same) {
			r.quietBeats.Store(0)
			return
		}
	}
	r.quietBeats.Add(1)
}

// isQuiet reports whether all processes that share the store have lived for quietTime. A process may die of
// other things than its only suspect: of an operator, of what else it does. Who has died under
// a task once more when all had been calm, has probably died of it.
func (r *registry) isQuiet() bool {
	return time.Duration(r.quietBeats.Load())*r.config.Beat >= quietTime
}

// self is the node's row.
func (r *registry) self() store.Node {
	queues := []string{"*"}
	if r.config.Queues != nil {
		queues = slices.Sorted(maps.Keys(r.config.Queues))
	}
	return store.Node{
		Name: r.config.Node, PID: os.Getpid(), Actions: r.served(), Queues: queues, Slots: r.config.Slots, Stuck: r.config.Executor.Stuck(),
		Started: r.started, Paused: r.pauses.applied(),
	}
}

// served returns the actions of the node and of the workers that are connected to it.
func (r *registry) served() []string {
	if r.crew.pool == nil {
		return r.actions()
	}
	list := slices.Concat(r.actions(), r.crew.pool.Actions(r.config.Node))
	slices.Sort(list)
	return slices.Compact(list)
}

// alive returns the nodes that were alive at the last beat, and those of this process.
func (r *registry) alive() []store.Node {
	var list []store.Node
	for _, other := range r.hub.members() {
		if !other.draining.Load() {
			list = append(list, other.registry.self())
		}
	}
	if known := r.nodes.Load(); known != nil {
		list = append(list, *known...)
	}
	return list
}

// isServed reports whether a live node has an action.
func (r *registry) isServed(action string) bool {
	if slices.Contains(r.actions(), action) {
		return true
	}
	return slices.ContainsFunc(r.alive(), func(n store.Node) bool { return slices.Contains(n.Actions, action) })
}

// warning returns why a task may wait for long; "" if it may not.
func (r *registry) warning(t *task.Task) string {
	if t.State.Final() || t.State == task.Running || t.Reserved != "" || r.isServed(t.Action) {
		return ""
	}
	return fmt.Sprintf("no live node has the action %s; the task waits for one", t.Action)
}
