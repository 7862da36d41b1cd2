package store

import (
	"time"
)

// JumpLeast is how much a clock must have been set forward or back to count as set. Smaller steps do no harm.
const JumpLeast = time.Second

// Clock reads the wall clock of a store that one process has to itself, and notices when somebody sets it. A
// lease, a delay and a backoff are spans of time: when the clock is set, the store moves the times
// at which they end. A time that somebody asked for stays what it is.
type Clock struct {
	now    func() time.Time
	steady func() time.Duration
	wall   time.Time
	began  time.Duration
}

// NewClock makes a clock. now is the wall clock; nil means time.Now. steady is a clock that nobody can set; nil
// means that of now, if its times have a monotonic reading, and else that now is never set.
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

// Read returns the time in UTC and whole milliseconds, and how far the wall clock has been set forward since
// the clock was made; that is less than 0 when it was set back.
func (c *Clock) Read() (now time.Time, ahead time.Duration) {
	now = c.now()
	passed := now.Sub(c.wall)
	if c.steady != nil {
		passed = c.steady() - c.began
	}
	return stored(now), now.Round(0).Sub(c.wall.Round(0)) - passed
}

// IsJump reports whether a clock that was set by so much counts as set.
func IsJump(by time.Duration) bool { return by.Abs() >= JumpLeast }
