// Package outage logs when a part that a node depends on stops working, and when it works again: one line at each
// change, however many calls fail in between.
package outage

import (
	"log/slog"
	"sync"
	"time"
)

// quietPeriod is how long no call may fail before a part counts as back. Without it, a part that fails some calls and
// answers others would change with each of them.
const quietPeriod = time.Second

// Part is a part that a node depends on. Its user reports calls with Failed and Answered if it notices outages by
// calls, or connections with Down and Up if it keeps them open. Its methods are safe for concurrent use.
type Part struct {
	Name   string // for the log, such as "the store"
	Logger *slog.Logger

	mu      sync.Mutex          // guards the fields below
	down    map[string]struct{} // connections that do not work
	since   time.Time           // when the outage began; zero: the part works
	last    time.Time           // when the last call failed
	refused int64               // calls that failed during the outage
	outages int64
}

// Failed notes a call that the part did not answer, and why.
func (p *Part) Failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	p.begin(err)
	p.refused++
}

// Answered notes a call that the part answered. The outage is over if no call has failed for a second.
func (p *Part) Answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) >= quietPeriod {
		p.end()
	}
}

// Down notes that a connection does not work, and why. The outage lasts until Up of each such connection.
func (p *Part) Down(connection string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down == nil {
		p.down = map[string]struct{}{}
	}
	p.down[connection] = struct{}{}
	if !p.begin(err, "connection", connection) {
		p.Logger.Debug("a part that this node needs is still away", "part", p.Name, "connection", connection, "error", err)
	}
}

// Up notes that a connection works.
func (p *Part) Up(connection string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.down, connection)
	if len(p.down) == 0 {
		p.end()
	}
}

// Refused counts a call that failed because a connection is down.
func (p *Part) Refused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused++
}

// begin begins an outage, unless one lasts already. p.mu is held.
func (p *Part) begin(err error, more ...any) bool {
	if !p.since.IsZero() {
		return false
	}
	p.since, p.refused = time.Now(), 0
	p.outages++
	p.Logger.Warn("a part that this node needs is away", append([]any{"part", p.Name, "error", err}, more...)...)
	return true
}

// end ends an outage, if one lasts. p.mu is held.
func (p *Part) end() {
	if p.since.IsZero() {
		return
	}
	p.Logger.Info("a part that this node needs is back", "part", p.Name, "ms", time.Since(p.since).Milliseconds(), "refused", p.refused)
	p.since = time.Time{}
}

// State reports whether the part is away, and returns the number of outages so far.
func (p *Part) State() (away bool, outages int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.since.IsZero(), p.outages
}
