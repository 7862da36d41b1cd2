package executor

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/pool"
)

// table is the actions that an executor has, and what it knows of each. It never changes;
// SetActions replaces it.
type table struct {
	*actions.Registry
	known   []*known // by the action's index
	slotted bool     // some action has slots of its own
}

// known is what an executor keeps under the name of an action for as long as it lives, also
// when the action is replaced, or comes back.
type known struct {
	actionStats
	limit     atomic.Pointer[pool.Limit] // nil: the action has never had slots of its own
	heldUntil atomic.Int64               // by Executor.now; the action wants to be left alone until then
}

// names is what an executor knows of each action that it has ever had.
type names struct {
	mu  sync.Mutex // guards all, and changes of the table
	all map[string]*known
}

// SetActions replaces the actions. Attempts that run or wait for a slot end with the actions
// that they began with. An action's slots and timeout hold for what begins from now on; a
// name that is not in list is unknown from now on.
func (e *Executor) SetActions(list ...actions.Action) error {
	registry, err := actions.NewRegistry(list...)
	if err != nil {
		return err
	}
	e.setActions(registry)
	return nil
}

func (e *Executor) setActions(registry *actions.Registry) {
	e.names.mu.Lock()
	defer e.names.mu.Unlock()
	t := &table{Registry: registry, known: make([]*known, registry.Len())}
	for _, name := range registry.Names() {
		entry, k := registry.Lookup([]byte(name)), e.names.all[name]
		if k == nil {
			k = &known{}
			e.names.all[name] = k
		}
		switch limit := k.limit.Load(); {
		case limit == nil && entry.Slots > 0:
			k.limit.Store(e.pool.NewLimit(entry.Slots))
		case limit != nil && entry.Slots > 0:
			limit.Set(entry.Slots)
		case limit != nil:
			limit.Set(math.MaxInt)
		}
		t.known[entry.Index], t.slotted = k, t.slotted || entry.Slots > 0
	}
	e.table.Store(t)
}

// find returns the action with exactly this name and what is known of it, or nil.
func (e *Executor) find(action []byte) (*actions.Entry, *known) {
	t := e.table.Load()
	entry := t.Lookup(action)
	if entry == nil {
		return nil, nil
	}
	return entry, t.known[entry.Index]
}

// Actions lists the names of the registered actions, sorted. The caller must not change the
// slice.
func (e *Executor) Actions() []string { return e.table.Load().Names() }

// Streams reports whether an action reads its payload as a stream.
func (e *Executor) Streams(action string) bool { return e.table.Load().Streams(action) }

// Limited lists the actions whose own slots or other end limit how many attempts may begin
// now, with their number: 0 for an action that is held back. It is nil if there are none.
func (e *Executor) Limited() map[string]Room {
	t := e.table.Load()
	if !t.slotted && e.lastHold.Load() <= e.now() {
		return nil
	}
	var rooms map[string]Room
	for _, name := range t.Names() {
		entry := t.Lookup([]byte(name))
		held := t.known[entry.Index].held(e.now())
		if entry.Slots == 0 && held == 0 {
			continue
		}
		room := Room{Held: held, Slots: entry.Slots, Free: math.MaxInt}
		if entry.Slots > 0 {
			room.Free = t.known[entry.Index].limit.Load().Free()
		}
		if rooms == nil {
			rooms = map[string]Room{}
		}
		rooms[name] = room
	}
	return rooms
}

// IsLimited reports whether Limited has the action.
func (e *Executor) IsLimited(action string) bool {
	t := e.table.Load()
	if !t.slotted && e.lastHold.Load() <= e.now() {
		return false
	}
	entry := t.Lookup([]byte(action))
	return entry != nil && (entry.Slots > 0 || t.known[entry.Index].held(e.now()) > 0)
}

// Room is how much more of an action may run.
type Room struct {
	Slots int           // of the action; 0: it has none of its own
	Free  int           // of these
	Held  time.Duration // how long nothing of the action is entered any more; 0: it is not held back
}

// held returns how long the action is to be left alone from now on.
func (k *known) held(now int64) time.Duration {
	until := k.heldUntil.Load()
	if until == 0 || until <= now {
		return 0
	}
	return time.Duration(until - now)
}

// hold leaves an action alone for a while, unless it is so for longer.
func (e *Executor) hold(k *known, wait time.Duration) {
	until := e.now() + int64(wait)
	raise(&k.heldUntil, until)
	raise(&e.lastHold, until)
}

// raise makes a number at least as large as another one.
func raise(n *atomic.Int64, least int64) {
	for old := n.Load(); old < least && !n.CompareAndSwap(old, least); old = n.Load() {
	}
}
