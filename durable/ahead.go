package durable

import (
	"context"
	"sync"
	"time"

	"github.com/posta-tasks/posta/durable/hands"
)

const (
	// aheadMost bounds the tasks that a node claims beyond its slots, while its tasks are so
	// quick that the store could not keep the slots busy otherwise.
	aheadMost = 512
	// aheadQuick and aheadSlow say how long tasks may take, from claim to end, so that more of them
	// are claimed ahead, or fewer.
	aheadQuick = 5 * time.Millisecond
	aheadSlow  = 20 * time.Millisecond
	// aheadPatience is how long a claimed task waits for a slot before it is given back, since
	// another node may have one.
	aheadPatience = 200 * time.Millisecond
)

// ahead is what is claimed and not started. It is safe for concurrent use.
type ahead struct {
	slots int
	wake  chan struct{}

	mu       sync.Mutex // guards all below, and launched and claimed of a held
	waiting  []*hands.Held
	launched int           // attempts that the executor has
	most     int           // how many may be claimed beyond the slots
	mean     time.Duration // from claim to end, of the latest attempts
}

func newAhead(slots int) *ahead { return &ahead{slots: slots, wake: make(chan struct{}, 1)} }

// put adds attempts that were claimed just now.
func (a *ahead) put(list []*hands.Held) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range list {
		h.Claimed = now
	}
	a.waiting = append(a.waiting, list...)
}

// next gives the attempt that is launched next; nil when there is none, or no slot.
func (a *ahead) next() *hands.Held {
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

// leave notes that an attempt has ended, and how quick it was; full tells that the
// latest claim got as many tasks as it asked for.
func (a *ahead) leave(h *hands.Held, full bool) {
	a.mu.Lock()
	if h.Launched {
		a.launched--
		took := time.Since(h.Claimed)
		a.mean += (took - a.mean) / 8
		switch {
		case took > aheadPatience:
			a.most = 0
		case a.mean > aheadSlow:
			a.most /= 2
		case a.mean < aheadQuick && full:
			a.most = min(a.most+1, aheadMost)
		}
	}
	some := len(a.waiting) > 0
	a.mu.Unlock()
	if some {
		poke(a.wake)
	}
}

// late takes out what has waited for longer than patience.
func (a *ahead) late(patience time.Duration) []*hands.Held {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, now := 0, time.Now()
	for n < len(a.waiting) && now.Sub(a.waiting[n].Claimed) >= patience {
		n++
	}
	late := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; n > 0 {
		a.most = 0
	}
	return late
}

func (a *ahead) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// allowed is how many tasks may be claimed beyond the slots.
func (a *ahead) allowed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.most
}

// feed launches what waits as slots become free, until ctx ends.
func (e *Engine) feed(ctx context.Context) {
	timer := time.NewTimer(aheadPatience)
	defer timer.Stop()
	for {
		select {
		case <-e.ahead.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		e.launchNext(ctx)
		e.giveBack(aheadPatience)
		if e.ahead.len() > 0 {
			timer.Reset(aheadPatience)
		}
	}
}

// launchNext starts attempts as long as there are slots.
func (e *Engine) launchNext(ctx context.Context) {
	for h := e.ahead.next(); h != nil; h = e.ahead.next() {
		e.start(ctx, h)
	}
}

// giveBack releases tasks that have waited too long.
func (e *Engine) giveBack(patience time.Duration) {
	for _, h := range e.ahead.late(patience) {
		e.abandon(h)
	}
}
