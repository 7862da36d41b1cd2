package durable

import (
	"slices"
	"sync"
	"time"
)

const (
	// prefetchMost is the largest number of tasks that a node claims beyond its slots.
	prefetchMost = 1_024
	// prefetchHorizon is the longest expected wait of a prefetched task for its slot.
	prefetchHorizon = 50 * time.Millisecond
	// prefetchPatience is how long a claimed task waits for a slot before it is released, since another node may
	// have a free slot.
	prefetchPatience = 200 * time.Millisecond
)

// turn has the fields of an attempt that prefetch guards with its mutex.
type turn struct {
	claimed  time.Time // when it was claimed
	launched time.Time // when it was passed to the executor; zero: it waits
	ended    bool
}

// prefetch has the attempts on this node that wait for a slot. While tasks are quick, the node claims more tasks
// than it has slots, since its slots would be idle otherwise. How many depends on the duration of tasks. It is safe
// for concurrent use.
type prefetch struct {
	slots int
	wake  func() // called when an attempt may be launched

	mu       sync.Mutex // guards the fields below, and the turn of each attempt
	waiting  []*attempt
	launched int           // attempts in the executor
	mean     time.Duration // duration of the latest attempts from launch to end; negative: none has ended
}

// newPrefetch returns a prefetch for a number of slots. It calls wake when a waiting attempt may have a slot. wake
// must return at once.
func newPrefetch(slots int, wake func()) *prefetch {
	return &prefetch{slots: slots, wake: wake, mean: -1}
}

// SetFree sets the number of slots to those that are taken plus free.
func (a *prefetch) SetFree(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slots = a.launched + n
}

// Put adds attempts that were just claimed, except those that have ended meanwhile.
func (a *prefetch) Put(list []*attempt) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range list {
		if h.turn.claimed = now; !h.turn.ended {
			a.waiting = append(a.waiting, h)
		}
	}
}

// Next returns the next attempt to launch, or nil if none waits or no slot is free.
func (a *prefetch) Next() *attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || a.launched >= a.slots {
		return nil
	}
	h := a.waiting[0]
	if a.waiting = a.waiting[1:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	h.turn.launched = time.Now()
	a.launched++
	return h
}

// Leave records that an attempt has ended. It must be called once for each. An attempt that waits is removed and
// never launched.
func (a *prefetch) Leave(h *attempt) {
	a.mu.Lock()
	if !h.turn.launched.IsZero() {
		a.launched--
		if took := time.Since(h.turn.launched); a.mean < 0 {
			a.mean = took
		} else {
			a.mean += (took - a.mean) / 16
		}
	} else if i := slices.Index(a.waiting, h); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
	h.turn.ended = true
	some := len(a.waiting) > 0
	a.mu.Unlock()
	if some {
		a.wake()
	}
}

// Late removes and returns the attempts that have waited for longer than prefetchPatience.
func (a *prefetch) Late(patience time.Duration) []*attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(a.waiting) && now.Sub(a.waiting[n].turn.claimed) >= patience {
		n++
	}
	late := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; n > 0 {
		a.mean = max(a.mean, prefetchPatience) // tasks take longer than the mean
	}
	return late
}

// Remove removes and returns the waiting attempts that which selects.
func (a *prefetch) Remove(which func(*attempt) bool) (taken []*attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(h *attempt) bool {
		if which(h) {
			taken = append(taken, h)
			return true
		}
		return false
	})
	return taken
}

// Len returns the number of waiting attempts.
func (a *prefetch) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// Allowed returns how many tasks may be claimed beyond the slots: as many as get their slot within prefetchHorizon.
func (a *prefetch) Allowed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mean < 0 || a.mean > prefetchHorizon {
		return 0
	}
	return int(min(time.Duration(a.slots)*prefetchHorizon/max(a.mean, 1), prefetchMost))
}
