// Package ahead is what a node has claimed beyond its slots and not started yet: while its tasks are so
// quick that the store could not keep the slots busy otherwise. How many these may be follows from how long
// tasks take.
package ahead

import (
	"sync"
	"time"

	"github.com/posta-tasks/posta/durable/hands"
)

const (
	// most bounds the tasks that a node claims beyond its slots.
	most = 1_024
	// quick and slow say how long tasks may take, from claim to end, so that more of them
	// are claimed ahead, or fewer.
	quick = 5 * time.Millisecond
	slow  = 20 * time.Millisecond
	// Patience is how long a claimed task waits for a slot before it is given back, since
	// another node may have one.
	Patience = 200 * time.Millisecond
)

// Ahead is what is claimed and not started. It is safe for concurrent use.
type Ahead struct {
	slots int
	wake  func() // tells that an attempt may be launched

	mu       sync.Mutex // guards all below, and launched and claimed of a held
	waiting  []*hands.Held
	launched int           // attempts that the executor has
	beyond   int           // how many may be claimed beyond the slots
	mean     time.Duration // from claim to end, of the latest attempts
}

// New makes one for so many slots. wake is called, and returns at once, when an attempt that waits may have a slot.
func New(slots int, wake func()) *Ahead { return &Ahead{slots: slots, wake: wake} }

// Put adds attempts that were claimed just now.
func (a *Ahead) Put(list []*hands.Held) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range list {
		h.Claimed = now
	}
	a.waiting = append(a.waiting, list...)
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
	h.Launched = true
	a.launched++
	return h
}

// Leave notes that an attempt has ended, and how quick it was; full tells that the
// latest claim got as many tasks as it asked for.
func (a *Ahead) Leave(h *hands.Held, full bool) {
	a.mu.Lock()
	if h.Launched {
		a.launched--
		took := time.Since(h.Claimed)
		a.mean += (took - a.mean) / 8
		switch {
		case took > Patience:
			a.beyond = 0
		case a.mean > slow:
			a.beyond /= 2
		case a.mean < quick && full:
			a.beyond = min(a.beyond+1, most)
		}
	}
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
		a.beyond = 0
	}
	return late
}

// Len is how many wait.
func (a *Ahead) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// Allowed is how many tasks may be claimed beyond the slots.
func (a *Ahead) Allowed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.beyond
}
