// Package outage logs when a part that a node depends on stops answering and when it answers again:
// one line at each change, however many calls fail in between.
package outage

import (
	"log/slog"
	"sync"
	"time"
)

// calm is how long no call may have failed before a part counts as back. A part that fails some calls
// and answers others would otherwise come and go with each of them.
const calm = time.Second

// Part is what a node depends on. Its methods are safe for concurrent use.
type Part struct {
	Name   string // as the log says it, such as "the store"
	Logger *slog.Logger

	mu      sync.Mutex // guards all below
	since   time.Time  // when it went away; zero: it answers
	last    time.Time  // when a call failed last
	refused int64      // calls that have failed since then
	outages int64
}

// Failed notes a call that the part did not answer, and why.
func (p *Part) Failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.last = now
	p.refused++
	if p.since.IsZero() {
		p.since, p.refused = now, 1
		p.outages++
		p.Logger.Warn("a part that this node needs is away", "part", p.Name, "error", err)
	}
}

// Answered notes a call that the part answered.
func (p *Part) Answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() || time.Since(p.last) < calm {
		return
	}
	p.Logger.Info("a part that this node needs is back", "part", p.Name, "ms", time.Since(p.since).Milliseconds(), "refused", p.refused)
	p.since = time.Time{}
}

// State returns whether the part is away, and how often it went.
func (p *Part) State() (away bool, outages int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.since.IsZero(), p.outages
}
