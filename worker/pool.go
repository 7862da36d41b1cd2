// Package worker manages the workers that are connected to the nodes of this process: their actions, their slots, and the
// tasks that they hold. It pushes tasks to workers and receives the outcomes.
//
// A worker is a client that has sent a work request. It answers each task with a line that names the lease. The doors
// transport the lines, and package durable keeps the tasks in the store:
//
//	durable ──Push──→ Pool ──line──→ worker        a durable task, which the engine has claimed
//	executor ──Run──→   │                          a direct run
//	        ←─Ended──   │  ←─done, fail, release── worker
//
// After a worker has lost its connection, the pool waits for its grace, some seconds. A worker that connects again in that
// time and names the leases that it holds keeps them. Otherwise its process counts as dead.
package worker

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/task"
)

const (
	// stopGrace is how long the outcome of a worker still counts after a cancel or a timeout.
	stopGrace = 5 * time.Second
	// stuckAfter is how long all slots of a worker must hold attempts that are over before it counts as stuck.
	stuckAfter = time.Minute
	// unsentMost is how many bytes of pushes a worker may leave unread before it gets no more tasks.
	unsentMost = 1 << 20
	// directMost limits the number of direct runs in a process that wait for workers.
	directMost = 4_096
)

// Pool has the workers of a process and their leases. It is safe for concurrent use.
type Pool struct {
	connected atomic.Int64 // streams

	mu       sync.Mutex // guards the fields below, and those of streams, groups and leases
	streams  map[*Stream]struct{}
	groups   map[string]*Group
	byAction map[string][]*Group
	leases   map[string]*lease
	absent   map[string]*absence // by identity
	pollers  map[string]*Stream  // workers without a connection, by identity
	direct   directs
	wakes    map[string]func(joined bool) // of the engines, by node
	named    uint64                       // workers that the pool has named
	pushes   uint64
	prefix   string            // of the leases of direct runs
	stats    map[string]*Stats // by node
}

// NewPool returns a Pool without workers.
func NewPool() *Pool {
	return &Pool{
		streams: map[*Stream]struct{}{}, groups: map[string]*Group{}, byAction: map[string][]*Group{},
		leases: map[string]*lease{}, absent: map[string]*absence{}, pollers: map[string]*Stream{}, direct: directs{byAction: map[string][]*lease{}},
		wakes: map[string]func(bool){}, prefix: ulid.Make().String(), stats: map[string]*Stats{},
	}
}

// Watch sets the function that is called when a worker of a node has a free slot, has connected, or has left; joined is true
// for the last two. wake is called on any goroutine without a lock, and must return at once. nil removes it.
func (p *Pool) Watch(node string, wake func(joined bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wake == nil {
		delete(p.wakes, node)
	} else {
		p.wakes[node] = wake
	}
}

// notify wakes the engine of a node.
func (p *Pool) notify(node string, joined bool) {
	p.mu.Lock()
	wake := p.wakes[node]
	p.mu.Unlock()
	if wake != nil {
		wake(joined)
	}
}

// Group has the workers of a node that have the same actions and queues, so that each of them can run the same tasks.
type Group struct {
	Node    string
	Actions []string // sorted
	Queues  []string // sorted; nil: every queue

	pool  *Pool
	key   string
	polls bool      // its workers have no connections
	ready ready     // all streams of the group, the one with the most free slots first
	died  time.Time // when a worker of the group last died

	suspects int // that its workers hold
}

// groupKey identifies a group.
func groupKey(node string, actions, queues []string) string {
	return node + "\x00" + strings.Join(actions, "\x01") + "\x00" + strings.Join(queues, "\x01") + fmt.Sprint(queues == nil)
}

// Groups returns the groups of a node.
func (p *Pool) Groups(node string) []*Group {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Group
	for _, g := range p.groups {
		if g.Node == node {
			if g.suspects > 0 {
				heap.Init(&g.ready) // workers with suspects get free slots as time passes
			}
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *Group) int { return cmp.Compare(a.key, b.key) })
	return list
}

// Free returns how many tasks the group's workers can receive now, at most most. It looks only at workers with free slots.
func (g *Group) Free(most int) int {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	return min(g.ready.free(0, most), most)
}

// free returns the free slots of a stream and of those below it in the heap, or at least most of them.
func (r ready) free(i, most int) int {
	if i >= len(r) || most <= 0 {
		return 0
	}
	n := r[i].free()
	if n > 0 { // otherwise none below it has any
		n += r.free(2*i+1, most-n)
		n += r.free(2*i+2, most-n)
	}
	return n
}

// FreeForSuspect reports whether a worker of the group can receive one more suspect now, and whether one can receive a
// suspect in quarantine: the worker holds nothing, and no worker of the group has died for quiet.
func (g *Group) FreeForSuspect(quiet time.Duration) (suspect, quarantined bool) {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	for _, s := range g.ready {
		suspect = suspect || s.canTakeSuspect()
		quarantined = quarantined || suspect && len(s.held) == 0
	}
	return suspect, quarantined && time.Since(g.died) >= quiet
}

// Clear stops pushes to the worker of the group that holds the fewest tasks, so that it can soon receive a suspect. Clear does
// nothing if it has stopped the pushes to a worker already.
func (g *Group) Clear() {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	var least *Stream
	for _, s := range g.ready {
		if s.clearing {
			return
		}
		if s.ending == "" && s.Slots > 0 && s.suspects == 0 && (least == nil || len(s.held) < len(least.held)) {
			least = s
		}
	}
	if least != nil {
		least.clearing = true
		least.reorder()
	}
}

// Cleared undoes Clear, since there is no suspect.
func (g *Group) Cleared() {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	for _, s := range g.ready {
		s.clearing = false
	}
	heap.Init(&g.ready)
}

// addStream adds a stream to its group. The caller holds mu.
func (p *Pool) addStream(s *Stream) {
	key := groupKey(s.Node, s.Actions, s.Queues)
	if s.poll != nil {
		key += " polls"
	}
	g := p.groups[key]
	if g == nil {
		g = &Group{Node: s.Node, Actions: s.Actions, Queues: s.Queues, pool: p, key: key, polls: s.poll != nil}
		p.groups[key] = g
		for _, action := range g.Actions {
			p.byAction[action] = append(p.byAction[action], g)
		}
	}
	s.group = g
	heap.Push(&g.ready, s)
	p.streams[s] = struct{}{}
	p.connected.Add(1)
}

// removeStream removes a stream from its group. The caller holds mu.
func (p *Pool) removeStream(s *Stream) {
	g := s.group
	heap.Remove(&g.ready, s.place)
	g.suspects -= s.suspects
	s.place = -1
	delete(p.streams, s)
	p.connected.Add(-1)
	if len(g.ready) > 0 {
		return
	}
	delete(p.groups, g.key)
	for _, action := range g.Actions {
		p.byAction[action] = slices.DeleteFunc(p.byAction[action], func(other *Group) bool { return other == g })
		if len(p.byAction[action]) == 0 {
			delete(p.byAction, action)
		}
	}
}

// IsEmpty reports whether no worker is connected.
func (p *Pool) IsEmpty() bool { return p.connected.Load() == 0 }

// Has reports whether a worker of this process has an action.
func (p *Pool) Has(action string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byAction[action]) > 0
}

// Actions returns the actions of the workers of a node, sorted; of all nodes if node is empty.
func (p *Pool) Actions(node string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for action, groups := range p.byAction {
		if node == "" || slices.ContainsFunc(groups, func(g *Group) bool { return g.Node == node }) {
			list = append(list, action)
		}
	}
	slices.Sort(list)
	return list
}

// ready is a heap of streams: the one with the most free slots first, then the one with the oldest push.
type ready []*Stream

func (r ready) Len() int { return len(r) }
func (r ready) Less(i, j int) bool {
	if a, b := r[i].free(), r[j].free(); a != b {
		return a > b
	}
	return r[i].pushed < r[j].pushed
}

func (r ready) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].place, r[j].place = i, j
}

// Push implements heap.Interface.
func (r *ready) Push(x any) {
	s := x.(*Stream)
	s.place = len(*r)
	*r = append(*r, s)
}

// Pop implements heap.Interface.
func (r *ready) Pop() any {
	last := len(*r) - 1
	s := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return s
}

// List returns the workers of a node, or of all if node is empty, by name.
func (p *Pool) List(node string) []task.Worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []task.Worker
	for s := range p.streams {
		if node == "" || s.Node == node {
			list = append(list, task.Worker{
				Name: s.Name, Node: s.Node, Actions: s.Actions, Queues: s.Queues, Slots: s.Slots, Held: len(s.held), Over: s.over,
				Version: s.Version, Since: s.since, Stuck: s.isStuck(), Quiet: s.ending == task.Quiet,
			})
		}
	}
	slices.SortFunc(list, func(a, b task.Worker) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
	})
	return list
}

// Stats counts what has happened to the workers of a node since the process started.
type Stats struct {
	Adopted int64           // leases that workers have kept when they connected again
	Lost    map[Cause]int64 // attempts whose worker has gone
}

// Stats returns a snapshot of the counters of a node.
func (p *Pool) Stats(node string) Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.statsOf(node)
	return Stats{Adopted: own.Adopted, Lost: maps.Clone(own.Lost)}
}

// statsOf returns the counters of a node. The caller holds mu.
func (p *Pool) statsOf(node string) *Stats {
	if p.stats[node] == nil {
		p.stats[node] = &Stats{Lost: map[Cause]int64{}}
	}
	return p.stats[node]
}

// Quiet stops pushes to the workers with a name, and ends their streams with the code quiet. The leases that they hold stay
// valid. It returns false if no worker has the name.
func (p *Pool) Quiet(name string) bool {
	return p.endStreams(func(s *Stream) bool { return s.Name == name }, refuseQuiet()) > 0
}

// Drain ends the streams of a node with the code draining, so that the workers connect to another node. The leases that they
// hold stay valid.
func (p *Pool) Drain(node string) {
	p.endStreams(func(s *Stream) bool { return s.Node == node }, RefuseDraining())
}

// Drain is Pool.Drain for one stream.
func (s *Stream) Drain() {
	s.pool.endStreams(func(other *Stream) bool { return other == s }, RefuseDraining())
}

// RefuseDraining returns the refusal of a worker whose node stops.
func RefuseDraining() *task.Error {
	return task.Refuse(task.Draining, "this node stops; connect again and name what you hold")
}

// endStreams sends the last line of the streams that which selects, and returns their number. Their connections stay open.
func (p *Pool) endStreams(which func(*Stream) bool, refusal *task.Error) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.streams {
		if which(s) {
			n++
			if s.ending == "" {
				s.ending = refusal.Code
				s.queueLine(appendRefusal(s.ID, refusal))
				s.reorder()
			}
		}
	}
	return n
}
