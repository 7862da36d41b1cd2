package durable

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// registry renews the row of this node, and knows the other live nodes.
type registry struct {
	*core
	pauses     *pauses
	dispatcher *dispatcher
	started    time.Time
	rates      rates

	learning   sync.Mutex                   // held while nodes is replaced
	nodes      atomic.Pointer[[]store.Node] // as of the last heartbeat, or the last Learn
	quietBeats atomic.Int64                 // heartbeats since a node has started
	changed    wait.Signal                  // the row of the node must be written soon
}

// Nodes returns the live nodes, by name.
func (e *Engine) Nodes(ctx context.Context) ([]store.Node, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := e.config.Store.Nodes(ctx)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	return list, nil
}

// beat sends a heartbeat and reads the live nodes. It reports whether the store has answered.
func (r *registry) beat(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	err := r.pauses.read(ctx)
	if err == nil { // before the row says which version the node applies
		err = r.config.Store.Beat(ctx, r.self())
	}
	if err != nil {
		r.counts.storeAway.Add(1)
		return false
	}
	if list, err := r.config.Store.Nodes(ctx); err == nil {
		if !r.learn(list) {
			r.quietBeats.Add(1)
		}
	}
	if list, err := r.config.Store.Queues(ctx); err == nil {
		r.rates.Note(time.Now(), list)
	}
	return true
}

// quietTime is how long no process may have started before a task in quarantine is claimed. A death is noticed
// within this time.
const quietTime = task.LeaseTime

// learn keeps a list of the live nodes. It reports whether a node has started or has come back; then no heartbeat counts as
// quiet any more. It does not measure time, so that the time in which a process was stopped does not count as quiet.
func (r *registry) learn(list []store.Node) (started bool) {
	r.learning.Lock()
	defer r.learning.Unlock()
	known := r.nodes.Load()
	for i := range list {
		same := func(n store.Node) bool { return n.Name == list[i].Name && n.Started.Equal(list[i].Started) }
		if known == nil || !slices.ContainsFunc(*known, same) {
			started = true
			r.quietBeats.Store(0)
		}
	}
	r.nodes.Store(&list)
	return started
}

// isQuiet reports whether all processes that share the store have lived for quietTime. A process may die for other
// reasons than its only suspect, such as a kill. But if it dies while it runs a suspect after a quiet time, that
// task is the likely cause.
func (r *registry) isQuiet() bool {
	return time.Duration(r.quietBeats.Load())*r.config.Beat >= quietTime
}

// self returns the row of the node, which other nodes read.
func (r *registry) self() store.Node {
	row := r.profile()
	if r.dispatcher.pool != nil {
		row.Workers = r.dispatcher.pool.Actions(r.config.Node)
	}
	if r.config.Present != nil {
		r.config.Present(&row)
	}
	return row
}

// profile returns what of the row is needed within the process.
func (r *registry) profile() store.Node {
	queues := []string{"*"}
	if r.config.Queues != nil {
		queues = slices.Sorted(maps.Keys(r.config.Queues))
	}
	return store.Node{
		Name: r.config.Node, PID: os.Getpid(), Actions: r.served(), Queues: queues, Slots: r.config.Slots, Stuck: r.config.Executor.Stuck(),
		Started: r.started, Paused: r.pauses.applied(),
	}
}

// Known returns the live nodes as of the last time that this one has read them, by name. It returns nil before the first
// time. The caller must not change the list.
func (e *Engine) Known() *[]store.Node { return e.registry.nodes.Load() }

// Learn reads the live nodes again.
func (e *Engine) Learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	if list, err := e.config.Store.Nodes(ctx); err == nil {
		e.registry.learn(list)
	}
}

// Announce has the engine write the row of the node soon, since something in it has changed.
func (e *Engine) Announce() { e.registry.announceSoon() }

// announceSoon is Engine.Announce. Without other processes nobody would read the row.
func (r *registry) announceSoon() {
	if r.config.Shared {
		r.changed.Set()
	}
}

// announce writes the row of the node between two heartbeats.
func (r *registry) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	if err := r.config.Store.Beat(ctx, r.self()); err != nil {
		r.counts.storeAway.Add(1) // the next heartbeat tries again
	}
}

// served returns the actions of the node and of the workers that are connected to it.
func (r *registry) served() []string {
	if r.dispatcher.pool == nil {
		return r.actions()
	}
	list := slices.Concat(r.actions(), r.dispatcher.pool.Actions(r.config.Node))
	slices.Sort(list)
	return slices.Compact(list)
}

// alive returns the nodes that were alive at the last heartbeat, and those of this process.
func (r *registry) alive() []store.Node {
	var list []store.Node
	for _, other := range r.hub.members() {
		if !other.draining.Load() {
			list = append(list, other.registry.profile())
		}
	}
	if known := r.nodes.Load(); known != nil {
		list = append(list, *known...)
	}
	return list
}

// isServed reports whether a live node has an action.
func (r *registry) isServed(action string) bool {
	if slices.Contains(r.actions(), action) || r.dispatcher.serves(action) {
		return true
	}
	return slices.ContainsFunc(r.alive(), func(n store.Node) bool { return slices.Contains(n.Actions, action) })
}

// isForWorkersElsewhere reports whether workers of a node of another process have an action that this node does not have.
func (r *registry) isForWorkersElsewhere(action string) bool {
	known := r.nodes.Load()
	if known == nil || slices.Contains(r.actions(), action) {
		return false
	}
	return slices.ContainsFunc(*known, func(n store.Node) bool {
		return n.Name != r.config.Node && slices.Contains(n.Workers, action)
	})
}

// warning returns why a task may wait for long, or "".
func (r *registry) warning(t *task.Task) string {
	if t.State.Final() || t.State == task.Running || t.Reserved != "" || r.isServed(t.Action) {
		return ""
	}
	return fmt.Sprintf("no live node has the action %s; the task waits for one", t.Action)
}
