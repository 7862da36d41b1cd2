package batch

import "sync"

// Gate admits calls until it is shut, and reports when the last of them has ended. The zero Gate is open. It is
// safe for concurrent use.
type Gate struct {
	mu    sync.Mutex // guards the fields below
	calls int
	over  chan struct{} // closed when the gate is shut and no call is running; nil: the gate is open
}

// Enter begins a call, which Leave ends. It returns false if the gate is shut.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over != nil {
		return false
	}
	g.calls++
	return true
}

// Leave ends a call.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls--; g.calls == 0 && g.over != nil {
		close(g.over)
	}
}

// Shut admits no more calls, and returns a channel that is closed when the last call has ended.
func (g *Gate) Shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over == nil {
		if g.over = make(chan struct{}); g.calls == 0 {
			close(g.over)
		}
	}
	return g.over
}
