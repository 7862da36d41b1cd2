package batch

import "sync"

// Gate lets calls in until it is shut, and tells when the last of them is over. The zero Gate is open. It is safe for
// concurrent use.
type Gate struct {
	mu    sync.Mutex // guards all below
	calls int
	over  chan struct{} // closed when the gate is shut and no call is under way; nil: it is open
}

// Enter begins a call, which ends with Leave; false means that the gate is shut.
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

// Shut lets no other call in, and gives a channel that is closed when the last one is over.
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
