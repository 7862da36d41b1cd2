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
func (p *prefetch) SetFree(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots = p.launched + n
}

// Put adds attempts that were just claimed, except those that have ended meanwhile.
func (p *prefetch) Put(list []*attempt) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range list {
		if a.turn.claimed = now; !a.turn.ended {
			p.waiting = append(p.waiting, a)
		}
	}
}

// Next returns the next attempt to launch, or nil if none waits or no slot is free.
func (p *prefetch) Next() *attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 || p.launched >= p.slots {
		return nil
	}
	a := p.waiting[0]
	if p.waiting = p.waiting[1:]; len(p.waiting) == 0 {
		p.waiting = nil
	}
	a.turn.launched = time.Now()
	p.launched++
	return a
}

// Leave records that an attempt has ended. It must be called once for each. An attempt that waits is removed and
// never launched.
func (p *prefetch) Leave(a *attempt) {
	p.mu.Lock()
	if !a.turn.launched.IsZero() {
		p.launched--
		if took := time.Since(a.turn.launched); p.mean < 0 {
			p.mean = took
		} else {
			p.mean += (took - p.mean) / 16
		}
	} else if i := slices.Index(p.waiting, a); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	a.turn.ended = true
	some := len(p.waiting) > 0
	p.mu.Unlock()
	if some {
		p.wake()
	}
}

// Late removes and returns the attempts that have waited for longer than prefetchPatience.
func (p *prefetch) Late(patience time.Duration) []*attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(p.waiting) && now.Sub(p.waiting[n].turn.claimed) >= patience {
		n++
	}
	late := p.waiting[:n:n]
	if p.waiting = p.waiting[n:]; n > 0 {
		p.mean = max(p.mean, prefetchPatience) // tasks take longer than the mean
	}
	return late
}

// Remove removes and returns the waiting attempts that which selects.
func (p *prefetch) Remove(which func(*attempt) bool) (taken []*attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(a *attempt) bool {
		if which(a) {
			taken = append(taken, a)
			return true
		}
		return false
	})
	return taken
}

// Len returns the number of waiting attempts.
func (p *prefetch) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// Allowed returns how many tasks may be claimed beyond the slots: as many as get their slot within prefetchHorizon.
func (p *prefetch) Allowed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mean < 0 || p.mean > prefetchHorizon {
		return 0
	}
	return int(min(time.Duration(p.slots)*prefetchHorizon/max(p.mean, 1), prefetchMost))
}
