// Package ahead is what a node has claimed beyond its slots and not started yet: while its tasks are so
// quick that the store could not keep the slots busy otherwise. How many these may be follows from how long
// tasks take.
package ahead

import (
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/durable/hands"
)

const (
	// most bounds the tasks that a node claims beyond its slots.
	most = 1_024
	// horizon is how long what is claimed ahead should wait for its slot at most, as tasks go.
	horizon = 50 * time.Millisecond
	// Patience is how long a claimed task waits for a slot before it is given back, since
	// another node may have one.
	Patience = 200 * time.Millisecond
)

// Ahead is what is claimed and not started. It is safe for concurrent use.
type Ahead struct {
	slots int
	wake  func() // tells that an attempt may be launched

	mu       sync.Mutex // guards all below, and launched, claimed and left of a held
	waiting  []*hands.Held
	launched int           // attempts that the executor has
	mean     time.Duration // from launch to end, of the latest attempts; negative: none has ended
}

// New makes one for so many slots. wake is called, and returns at once, when an attempt that waits may have a slot.
func New(slots int, wake func()) *Ahead { return &Ahead{slots: slots, wake: wake, mean: -1} }

// Put adds attempts that were claimed just now, but for those that have ended meanwhile.
func (a *Ahead) Put(list []*hands.Held) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range list {
		if h.Claimed = now; !h.Left {
			a.waiting = append(a.waiting, h)
		}
	}
}

// Next gives the attempt that is launched next; nil when there is none, or no slot.
func (a *Ahead) Next() *hands.Held {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || a.launched >= a.slots {
		return nil
	}
	h := a.waiting[0]
	if a.waiting = a.waiting[1:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	h.Launched = time.Now()
	a.launched++
	return h
}

// Leave notes that an attempt has ended, which happens once. One that waits is taken out, and is never launched.
func (a *Ahead) Leave(h *hands.Held) {
	a.mu.Lock()
	if !h.Launched.IsZero() {
		a.launched--
		if took := time.Since(h.Launched); a.mean < 0 {
			a.mean = took
		} else {
			a.mean += (took - a.mean) / 16
		}
	} else if i := slices.Index(a.waiting, h); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
	h.Left = true
	some := len(a.waiting) > 0
	a.mu.Unlock()
	if some {
		a.wake()
	}
}

// Late takes out what has waited for longer than patience.
func (a *Ahead) Late(patience time.Duration) []*hands.Held {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(a.waiting) && now.Sub(a.waiting[n].Claimed) >= patience {
		n++
	}
	late := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; n > 0 {
		a.mean = max(a.mean, Patience) // they are not what they were
	}
	return late
}

// Take takes out what waits and shall not any more.
func (a *Ahead) Take(which func(*hands.Held) bool) (taken []*hands.Held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(h *hands.Held) bool {
		if which(h) {
			taken = append(taken, h)
			return true
		}
		return false
	})
	return taken
}

// Len is how many wait.
func (a *Ahead) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// Allowed is how many tasks may be claimed beyond the slots: as many as will have their turn within the horizon.
func (a *Ahead) Allowed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mean < 0 || a.mean > horizon {
		return 0
	}
	return int(min(time.Duration(a.slots)*horizon/max(a.mean, 1), most))
}
