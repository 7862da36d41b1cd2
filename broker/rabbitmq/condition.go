package rabbitmq

import (
	"log/slog"
	"sync"
	"time"
)

// condition is whether the server can be worked with, as the log tells it: one line when that ends,
// and one when it begins again.
type condition struct {
	log *slog.Logger

	mu      sync.Mutex     // guards all below
	down    map[string]int // parts that do not work, and how often each has been tried
	since   time.Time      // when the first of them failed
	refused int64          // calls since then
	outages int64
}

func newCondition(log *slog.Logger) *condition {
	return &condition{log: log, down: map[string]int{}}
}

// fails notes that a part does not work, or still not.
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

// works notes that a part works, or works still.
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

// state returns whether a part does not work, and how often that has begun.
func (c *condition) state() (away bool, outages int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.down) > 0, c.outages
}
