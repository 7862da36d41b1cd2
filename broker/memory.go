package broker

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"sync"
	"unique"

	"github.com/posta-tasks/posta/task"
)

// Bounds limits what a Memory keeps. A zero field means its default.
type Bounds struct {
	IDs     int // in all lanes; DefaultIDs
	LaneIDs int // in one lane; DefaultLaneIDs
	Events  int // unread by one listener; DefaultEvents
}

const (
	// DefaultIDs is the work of the fastest node for a few seconds. It takes about 10 MB.
	DefaultIDs = 100_000
	// DefaultLaneIDs leaves space for other queues when one is paused or flooded.
	DefaultLaneIDs = 20_000
	// DefaultEvents is enough for a listener that stops for a garbage collection at the
	// highest rates.
	DefaultEvents = 8_192
)

// Memory is a Broker inside one process, shared by its nodes. It is also the reference for
// the contract. It delivers no id twice and needs no acknowledgements: if the process dies,
// publishers and takers die together, and the store has the tasks.
type Memory struct {
	bounds Bounds
	events bus

	// mu guards the fields below and the takers. Unexported methods need it held.
	mu      sync.Mutex
	closed  bool
	lanes   map[place]*lane // lanes with ids
	orders  [3]list.List    // the same lanes by priority, in the order of their turns
	takers  map[*taker]struct{}
	changed chan struct{} // closed when waiting takers should look again; nil: no taker waits
	held    int           // ids in lanes
	turn    int           // ids taken so far
	count   Stats
}

// NewMemory returns an empty broker.
func NewMemory(bounds Bounds) *Memory {
	bounds.IDs = cmp.Or(bounds.IDs, DefaultIDs)
	bounds.LaneIDs = cmp.Or(bounds.LaneIDs, DefaultLaneIDs)
	return &Memory{
		bounds: bounds,
		events: bus{bound: cmp.Or(bounds.Events, DefaultEvents), listeners: map[*listener]struct{}{}},
		lanes:  map[place]*lane{},
		takers: map[*taker]struct{}{},
	}
}

// errClosed returns the error of a closed broker, taker or listener.
func errClosed() error { return task.Refuse(task.Unavailable, "the broker is closed") }

// Close implements Broker.
func (m *Memory) Close() error {
	m.events.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake()
	return nil
}

// Stats implements Broker.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.count
	stats.Held, stats.Taken = m.held, int64(m.turn)
	stats.Sent, stats.Missed = m.events.counts()
	return stats
}

// Publish implements IDs.
func (m *Memory) Publish(ctx context.Context, hints []Hint) error {
	if err := ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the broker was not asked: %v", err)
	}
	if err := knownPriorities(hints); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed()
	}
	for i := range hints {
		m.put(&hints[i])
	}
	m.wake()
	return nil
}

// knownPriorities refuses hints with an unknown priority.
func knownPriorities(hints []Hint) error {
	for i := range hints {
		if p := hints[i].Priority; p > task.Low {
			return task.Refuse(task.Internal, "the priority %d: there is none above %d", p, task.Low)
		}
	}
	return nil
}

// put adds an id to its lane, or drops it.
func (m *Memory) put(hint *Hint) {
	m.count.Published++
	at := place{hint.Queue, hint.Priority}
	l := m.lanes[at]
	switch {
	case l == nil && m.held >= m.bounds.IDs:
		m.count.Dropped++
		m.markBehind(hint.Queue)
	case l != nil && (l.closed || l.len() >= m.bounds.LaneIDs || m.held >= m.bounds.IDs):
		m.count.Dropped++
		l.closed = true
	default:
		if l == nil {
			l = &lane{place: at}
			l.element = m.orders[at.priority].PushBack(l)
			m.lanes[at] = l
		}
		l.push(hint)
		m.held++
	}
}

// markBehind marks the takers of a queue as behind: the store has more of its tasks.
func (m *Memory) markBehind(queue string) {
	for t := range m.takers {
		t.behind = t.behind || t.takesFrom(queue)
	}
}

// MarkBehind makes the next Take of every taker return Behind. It is for drivers that keep
// arrived ids in a Memory.
func (m *Memory) MarkBehind() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t := range m.takers {
		t.behind = true
	}
	m.wake()
}

// wake wakes all waiting takers. There are few of them, and a single one would have to pass
// on the ids that it does not want.
func (m *Memory) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Consume implements IDs.
func (m *Memory) Consume(what Interest) (Taker, error) {
	t := &taker{memory: m, queues: slices.Clone(what.Queues), actions: map[unique.Handle[string]]bool{}, behind: true}
	for _, action := range what.Actions {
		t.actions[unique.Make(action)] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed()
	}
	m.takers[t] = struct{}{}
	return t, nil
}

// taker is a Taker. The mu of its memory guards closed and behind.
type taker struct {
	memory  *Memory
	queues  []string // nil: every queue
	actions map[unique.Handle[string]]bool
	closed  bool
	behind  bool // the next Take returns Behind
}

// works reports whether the taker takes from a queue.
func (t *taker) takesFrom(queue string) bool {
	return t.queues == nil || slices.Contains(t.queues, queue)
}

// Take implements Taker.
func (t *taker) Take(ctx context.Context, want Want) (Taken, error) {
	if want.Limit < 1 {
		return Taken{}, task.Refuse(task.Internal, "a limit of %d ids: it must be 1 or more", want.Limit)
	}
	for {
		if err := ctx.Err(); err != nil {
			return Taken{}, err
		}
		taken, later, err := t.look(want)
		if later == nil {
			return taken, err
		}
		select {
		case <-later:
		case <-ctx.Done():
		}
	}
}

// look returns the ids that are there now. If there are none, it returns a channel that is
// closed when there may be some.
func (t *taker) look(want Want) (taken Taken, later <-chan struct{}, err error) {
	m := t.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.closed || m.closed {
		return Taken{}, nil, errClosed()
	}
	taken.IDs = m.take(t, want)
	taken.Behind, t.behind = t.behind, false
	if len(taken.IDs) > 0 || taken.Behind {
		return taken, nil, nil
	}
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return Taken{}, m.changed, nil
}

// take removes ids for the taker.
func (m *Memory) take(t *taker, want Want) (ids []string) {
	r := newPicker(t, want, &m.orders)
	for len(ids) < want.Limit {
		id, from := r.pick(m.turn)
		if from == nil {
			break
		}
		ids = append(ids, id)
		m.turn++
		m.held--
		if from.len() == 0 {
			m.remove(from)
		}
	}
	return ids
}

// remove removes an empty lane. If the lane dropped ids, it marks its takers as behind.
func (m *Memory) remove(l *lane) {
	delete(m.lanes, l.place)
	m.orders[l.priority].Remove(l.element)
	if l.closed {
		m.markBehind(l.queue)
		m.wake()
	}
}

// Ack implements Taker.
func (*taker) Ack() {}

// Close implements Taker.
func (t *taker) Close() error {
	t.memory.mu.Lock()
	defer t.memory.mu.Unlock()
	t.closed = true
	delete(t.memory.takers, t)
	t.memory.wake()
	return nil
}

// Kind returns what people call this broker.
func (m *Memory) Kind() string { return "memory" }
