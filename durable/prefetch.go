package durable

import (
	"slices"
	"sync"
	"time"
)

const (
	// prefetchMost bounds the tasks that a node claims beyond its slots.
	prefetchMost = 1_024
	// prefetchHorizon is how long what is claimed ahead should wait for its slot at most, as tasks go.
	prefetchHorizon = 50 * time.Millisecond
	// prefetchPatience is how long a claimed task waits for a slot before it is given back, since
	// another node may have one.
	prefetchPatience = 200 * time.Millisecond
)

// turn is what prefetch knows of an attempt. The mutex of prefetch guards it.
type turn struct {
	claimed  time.Time // by our clock
	launched time.Time // when the executor got it; zero means that it waits
	ended    bool
}

// prefetch is the attempts that wait on this node for a slot. While tasks are quick, the node claims more of them than it
// has slots, since it could not keep its slots busy otherwise. How many follows from how long tasks take. It is safe for
// concurrent use.
type prefetch struct {
	slots int
	wake  func() // tells that an attempt may be launched

	mu       sync.Mutex // guards all below, and launched, claimed and left of a held
	waiting  []*attempt
	launched int           // attempts that the executor has
	mean     time.Duration // from launch to end, of the latest attempts; negative: none has ended
}

// New makes one for so many slots. wake is called, and returns at once, when an attempt that waits may have a slot.
func newPrefetch(slots int, wake func()) *prefetch {
	return &prefetch{slots: slots, wake: wake, mean: -1}
}

// SetFree sets the slots to those that are taken and so many free ones.
func (a *prefetch) SetFree(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slots = a.launched + n
}

// Put adds attempts that were claimed just now, but for those that have ended meanwhile.
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

// Next returns the attempt that is launched next; nil when there is none, or no slot.
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

// Leave notes that an attempt has ended, which happens once. One that waits is taken out, and is never launched.
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

// Late takes out what has waited for longer than patience.
func (a *prefetch) Late(patience time.Duration) []*attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(a.waiting) && now.Sub(a.waiting[n].turn.claimed) >= patience {
		n++
	}
	late := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; n > 0 {
		a.mean = max(a.mean, prefetchPatience) // tasks are slower than the mean says
	}
	return late
}

// Remove removes the attempts that wait and that which selects, and returns them.
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

// Len is how many wait.
func (a *prefetch) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// Allowed is how many tasks may be claimed beyond the slots: as many as will have their turn within the horizon.
func (a *prefetch) Allowed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mean < 0 || a.mean > prefetchHorizon {
		return 0
	}
	return int(min(time.Duration(a.slots)*prefetchHorizon/max(a.mean, 1), prefetchMost))
}
