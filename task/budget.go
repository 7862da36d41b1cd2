package task

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultBufferedBytes is the budget if the available memory is not known.
const DefaultBufferedBytes = 256 << 20

// Budget limits the memory that all clients of a node together use: long lines, bodies, requests that wait, replies
// that are not written yet, waits and watches. The line door and the HTTP door share one. The ordinary buffers of a
// connection do not count, so small requests do not need it. It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64 // changes under mu only

	mu      sync.Mutex // guards the fields below
	blocked int64      // bytes of used that belong to callers of Wait
	waiting []*claim   // in the order of their calls
}

// claim is one call of Wait.
type claim struct {
	bytes, holds int64
	granted      chan bool // receives the outcome, once
}

// NewBudget returns a Budget of limit bytes; 0 means DefaultBufferedBytes.
func NewBudget(limit int) *Budget {
	if limit == 0 {
		limit = DefaultBufferedBytes
	}
	return &Budget{limit: int64(limit)}
}

// Take counts n bytes and reports whether they fit. If they do not, it counts nothing.
func (b *Budget) Take(n int) bool { return b.take(int64(n), b.limit) }

// TakeLasting is Take for memory that a client may use for hours, such as that of a wait. It leaves a quarter of
// the budget to short requests.
func (b *Budget) TakeLasting(n int) bool { return b.take(int64(n), b.limit-b.limit/4) }

func (b *Budget) take(n, limit int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.Load()+n > limit {
		return false
	}
	b.used.Add(n)
	return true
}

// Add counts n bytes even if they do not fit. It is for memory that is in use already, such as a result. Full keeps
// new work from adding to it.
func (b *Budget) Add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.Add(int64(n))
}

// Give returns n bytes that were counted.
func (b *Budget) Give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.Add(-int64(n))
	b.settle()
}

// Wait counts n bytes as soon as they fit, and reports whether they did before ctx ended. holds is the number of
// counted bytes that the caller returns only after Wait. Callers that hold bytes come first. If all counted bytes
// belong to callers of Wait, nobody else can return any, so the latest caller is refused.
func (b *Budget) Wait(ctx context.Context, n, holds int) bool {
	c := &claim{bytes: int64(n), holds: int64(holds), granted: make(chan bool, 1)}
	b.mu.Lock()
	if c.bytes+c.holds > b.limit {
		b.mu.Unlock()
		return false
	}
	b.waiting = append(b.waiting, c)
	b.blocked += c.holds
	b.settle()
	b.mu.Unlock()
	select {
	case granted := <-c.granted:
		return granted
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, c); i >= 0 {
		b.remove(i, false)
		b.settle()
	}
	return <-c.granted
}

// TakeWithin counts n bytes: at once if they fit, otherwise like Wait, for at most d.
func (b *Budget) TakeWithin(ctx context.Context, d time.Duration, n, holds int) bool {
	if b.Take(n) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return b.Wait(ctx, n, holds)
}

// settle grants the claims that fit, and refuses one if none could ever be granted. The caller holds mu.
func (b *Budget) settle() {
	for i := b.first(); i >= 0 && b.used.Load()+b.waiting[i].bytes <= b.limit; i = b.first() {
		b.used.Add(b.waiting[i].bytes)
		b.remove(i, true)
	}
	if len(b.waiting) == 0 || b.used.Load() == 0 || b.used.Load() > b.blocked {
		return
	}
	for i := len(b.waiting) - 1; i >= 0; i-- {
		if b.waiting[i].holds > 0 {
			b.remove(i, false)
			return
		}
	}
}

// first returns the index of the next claim, or -1. The caller holds mu.
func (b *Budget) first() int {
	if i := slices.IndexFunc(b.waiting, func(c *claim) bool { return c.holds > 0 }); i >= 0 {
		return i
	}
	return min(len(b.waiting), 1) - 1
}

// remove ends a claim. The caller holds mu.
func (b *Budget) remove(i int, granted bool) {
	c := b.waiting[i]
	b.waiting = slices.Delete(b.waiting, i, i+1)
	b.blocked -= c.holds
	c.granted <- granted
}

// Full reports whether the counted bytes exceed the budget by an eighth, which only Add can cause. Until then small
// requests, which do not count, are served whatever long ones use. Full takes no lock.
func (b *Budget) Full() bool { return b.used.Load() >= b.limit+b.limit/8 }

// Limit returns the number of bytes that may be counted.
func (b *Budget) Limit() int { return int(b.limit) }

// Used returns the number of bytes that are counted.
func (b *Budget) Used() int64 { return b.used.Load() }

// Refusal returns the error for a client whose request does not fit.
func (b *Budget) Refusal() *Error {
	e := Refuse(Overloaded, "the clients of this node make it hold %d MiB, its limit", b.limit>>20)
	e.Limit, e.RetryAfter = "max-buffered", time.Second
	return e
}
