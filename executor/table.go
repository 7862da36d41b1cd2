package executor

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/pool"
)

// table has the actions of an executor and what it knows about each. A table never changes. SetActions replaces it.
type table struct {
	*actions.Registry
	known   []*known // by the action's index
	slotted bool     // at least one action has slots of its own
}

// known is what the executor knows about the action with a name. It remains when the action is replaced, or removed
// and added again.
type known struct {
	actionStats
	limit     atomic.Pointer[pool.Limit] // nil: the action never had slots of its own
	heldUntil atomic.Int64               // until when the action is held back, by Executor.now
}

// names has a known for each name of an action that the executor has ever had.
type names struct {
	mu  sync.Mutex // guards all, and replacements of the table
	all map[string]*known
}

// SetActions replaces the actions. Attempts that run or wait for a slot keep the actions that they began with. New
// slots and timeouts of an action apply to attempts that begin later. Names that are not in list become unknown. An
// error, as of actions.NewRegistry, leaves the actions unchanged.
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

// find returns the action with this name and what is known about it, or nil.
func (e *Executor) find(action []byte) (*actions.Entry, *known) {
	t := e.table.Load()
	entry := t.Lookup(action)
	if entry == nil {
		return nil, nil
	}
	return entry, t.known[entry.Index]
}

// Actions returns the names of the registered actions, sorted. The caller must not change the slice.
func (e *Executor) Actions() []string { return e.table.Load().Names() }

// Streams reports whether an action reads its payload as a stream.
func (e *Executor) Streams(action string) bool { return e.table.Load().Streams(action) }

// Limited returns the actions that have slots of their own or are held back. It is nil if there are none.
func (e *Executor) Limited() map[string]Availability {
	t := e.table.Load()
	if !t.slotted && e.lastHold.Load() <= e.now() {
		return nil
	}
	var limited map[string]Availability
	for _, name := range t.Names() {
		entry := t.Lookup([]byte(name))
		held := t.known[entry.Index].held(e.now())
		if entry.Slots == 0 && held == 0 {
			continue
		}
		one := Availability{Held: held, Slots: entry.Slots, Free: math.MaxInt}
		if entry.Slots > 0 {
			one.Free = t.known[entry.Index].limit.Load().Free()
		}
		if limited == nil {
			limited = map[string]Availability{}
		}
		limited[name] = one
	}
	return limited
}

// IsLimited reports whether Limited includes the action.
func (e *Executor) IsLimited(action string) bool {
	t := e.table.Load()
	if !t.slotted && e.lastHold.Load() <= e.now() {
		return false
	}
	entry := t.Lookup([]byte(action))
	return entry != nil && (entry.Slots > 0 || t.known[entry.Index].held(e.now()) > 0)
}

// Availability is how many more attempts of an action may begin.
type Availability struct {
	Slots int           // the slots of the action; 0: it has none of its own
	Free  int           // how many of them are free
	Held  time.Duration // for how long the action is held back; 0: it is not
}

// held returns for how long the action is held back.
func (k *known) held(now int64) time.Duration {
	until := k.heldUntil.Load()
	if until == 0 || until <= now {
		return 0
	}
	return time.Duration(until - now)
}

// hold holds an action back for a while, unless it is held back for longer already.
func (e *Executor) hold(k *known, wait time.Duration) {
	until := e.now() + int64(wait)
	raise(&k.heldUntil, until)
	raise(&e.lastHold, until)
}

// raise sets n to least if n is smaller.
func raise(n *atomic.Int64, least int64) {
	for old := n.Load(); old < least && !n.CompareAndSwap(old, least); old = n.Load() {
	}
}
