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

// prefetch is what is claimed and not started. It is safe for concurrent use.
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

// Put adds attempts that were claimed just now, but for those that have ended meanwhile.
func (a *prefetch) Put(list []*attempt) {
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
	h.Launched = time.Now()
	a.launched++
	return h
}

// Leave notes that an attempt has ended, which happens once. One that waits is taken out, and is never launched.
func (a *prefetch) Leave(h *attempt) {
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
func (a *prefetch) Late(patience time.Duration) []*attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(a.waiting) && now.Sub(a.waiting[n].Claimed) >= patience {
		n++
	}
	late := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; n > 0 {
		a.mean = max(a.mean, prefetchPatience) // they are not what they were
	}
	return late
}

// Take takes out what waits and shall not any more.
func (a *prefetch) Take(which func(*attempt) bool) (taken []*attempt) {
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
