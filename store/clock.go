package store

import (
	"time"
)

// JumpLeast is the smallest change of the wall clock that counts as a jump. Smaller changes are ignored, since
// they do no harm.
const JumpLeast = time.Second

// Clock reads the wall clock of a store that only one process uses, and detects that the wall clock was set.
// Leases, delays and backoffs last for a span of time, so the store moves their ends when the clock is set. A
// time that a client chose is not moved. A Clock never changes, so its methods are safe for concurrent use.
type Clock struct {
	now    func() time.Time
	steady func() time.Duration
	wall   time.Time
	began  time.Duration
}

// NewClock returns a clock. now is the wall clock; nil means time.Now. steady is a clock that cannot be set;
// nil means the monotonic reading of now. If the times of now have no monotonic reading, the clock never
// detects a jump.
func NewClock(now func() time.Time, steady func() time.Duration) *Clock {
	if now == nil {
		now = time.Now
	}
	c := &Clock{now: now, steady: steady, wall: now()}
	if steady != nil {
		c.began = steady()
	}
	return c
}

// Read returns the time in UTC and whole milliseconds. ahead is how far the wall clock has been set forward
// since NewClock; it is negative when the clock was set back.
func (c *Clock) Read() (now time.Time, ahead time.Duration) {
	now = c.now()
	passed := now.Sub(c.wall)
	if c.steady != nil {
		passed = c.steady() - c.began
	}
	return stored(now), now.Round(0).Sub(c.wall.Round(0)) - passed
}

// IsJump reports whether a change of the wall clock is large enough to count as a jump.
func IsJump(by time.Duration) bool { return by.Abs() >= JumpLeast }
