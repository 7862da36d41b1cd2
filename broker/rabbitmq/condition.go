package rabbitmq

import (
	"log/slog"
	"sync"
	"time"
)

// condition notes whether the server can be used. It logs one line when an outage begins and one when
// it ends.
type condition struct {
	log *slog.Logger

	mu      sync.Mutex     // guards the fields below
	down    map[string]int // failures in a row of the parts that do not work
	since   time.Time      // when the first of them failed
	refused int64          // calls refused since then
	outages int64
}

func newCondition(log *slog.Logger) *condition {
	return &condition{log: log, down: map[string]int{}}
}

// fails notes that a part does not work.
func (c *condition) fails(part string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := len(c.down) == 0
	c.down[part]++
	if !first {
		c.log.Debug("the broker is still away", "connection", part, "error", err)
		return
	}
	c.since, c.refused = time.Now(), 0
	c.outages++
	c.log.Warn("the broker is away", "connection", part, "error", err)
}

// works notes that a part works.
func (c *condition) works(part string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.down)
	delete(c.down, part)
	if before > 0 && len(c.down) == 0 {
		c.log.Info("the broker is back", "ms", time.Since(c.since).Milliseconds(), "refused", c.refused)
	}
}

// refuses counts a call that was refused.
func (c *condition) refuses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
}

// state reports whether an outage lasts, and returns the number of outages.
func (c *condition) state() (away bool, outages int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.down) > 0, c.outages
}
