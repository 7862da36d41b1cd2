package durable

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Nodes gives the nodes that are alive, by name.
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
func (e *Engine) beat(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	err := e.lookAtPauses(ctx)
	if err == nil { // before the row says which version the node heeds
		err = e.config.Store.Beat(ctx, e.self())
	}
	if err != nil {
		e.counts.storeAway.Add(1)
		return false
	}
	if list, err := e.config.Store.Nodes(ctx); err == nil {
		e.noteCalm(list)
		e.nodes.Store(&list)
	}
	if list, err := e.config.Store.Queues(ctx); err == nil {
		e.rates.Note(time.Now(), list)
	}
	return true
}

// calmTime is how long no process may have started before an accused task is claimed. It is the
// time in which a death is noticed at the latest.
const calmTime = task.LeaseTime

// noteCalm counts the beats since a node has started, or has come back. Beats are counted and not
// time, so that a process that was stopped for a while has not been calm meanwhile.
func (e *Engine) noteCalm(list []store.Node) {
	known := e.nodes.Load()
	for i := range list {
		same := func(n store.Node) bool { return n.Name == list[i].Name && n.Started.Equal(list[i].Started) }
		if known == nil || !slices.ContainsFunc(*known, same) {
			e.calmBeats.Store(0)
			return
		}
	}
	e.calmBeats.Add(1)
}

// calm tells whether processes that share the store have lived for a while. A process may die of
// other things than its only suspect: of an operator, of what else it does. Who has died under
// a task once more when all had been calm, has probably died of it.
func (e *Engine) calm() bool {
	return time.Duration(e.calmBeats.Load())*e.config.Beat >= calmTime
}

// self is the node's row.
func (e *Engine) self() store.Node {
	queues := []string{"*"}
	if e.config.Queues != nil {
		queues = slices.Sorted(maps.Keys(e.config.Queues))
	}
	return store.Node{
		Name: e.config.Node, PID: pid(), Actions: e.actions(), Queues: queues, Slots: e.config.Slots, Stuck: e.config.Executor.Stuck(),
		Started: e.started, Paused: e.pauseVersion(),
	}
}

// alive gives the nodes that were alive at the last beat, and those of this process.
func (e *Engine) alive() []store.Node {
	var list []store.Node
	for _, other := range e.hub.members() {
		if !other.draining.Load() {
			list = append(list, other.self())
		}
	}
	if known := e.nodes.Load(); known != nil {
		list = append(list, *known...)
	}
	return list
}

// isServed tells whether a live node has an action.
func (e *Engine) isServed(action string) bool {
	if slices.Contains(e.actions(), action) {
		return true
	}
	return slices.ContainsFunc(e.alive(), func(n store.Node) bool { return slices.Contains(n.Actions, action) })
}
