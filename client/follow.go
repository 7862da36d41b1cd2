package client

import (
	"context"
	"sync"
	"time"
)

// keptLines is how many lines of a reply wait for a slow caller. A caller that falls
// further behind is cut off; it may ask again from where it was.
const keptLines = 256

// follower is a call whose reply has several lines. It is used once, since a line may
// still come after it was abandoned.
type follower struct {
	call
	news chan struct{} // holds one

	mu      sync.Mutex // guards the fields below; no other lock is taken while it is held
	lines   [][]byte   // received and not yet taken
	cut     bool       // more lines came than are kept
	settled bool       // the call has come back
}

// resends is how often a request has come back since its last line. It passes from one
// follower to the next.
type resends struct{ tries, losses int }

// newFollower returns a follower that continues the count of earlier ones.
func newFollower(shape shape, past resends) *follower {
	f := &follower{news: make(chan struct{}, 1)}
	f.owner, f.heard, f.shape = f, f.keep, shape
	f.tries, f.losses = past.tries, past.losses
	return f
}

// resends returns how often the request has come back since its last line.
func (f *follower) resends() resends { return resends{f.tries, f.losses} }

// keep stores a line for the caller.
func (f *follower) keep(line []byte) {
	f.mu.Lock()
	f.cut = f.cut || len(f.lines) == keptLines
	if !f.cut {
		f.lines = append(f.lines, line)
	}
	f.mu.Unlock()
	f.wake()
}

// completed wakes the caller for the last time.
func (f *follower) completed() {
	f.mu.Lock()
	f.settled = true
	f.mu.Unlock()
	f.wake()
}

func (f *follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// take returns the lines that have come, and whether more can follow.
func (f *follower) take() (lines [][]byte, settled, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, f.lines = f.lines, nil
	return lines, f.settled, f.cut
}

// ending says why following a call has ended.
type ending uint8

// The endings.
const (
	endSettled ending = iota // the call has come back and holds the last line
	endCutOff                // the caller was slow, and lines were dropped
	endLeft                  // the caller has enough
	endContext               // ctx ended
)

// follow sends the call once and passes its lines to take until take returns false. Lines
// that came together are passed together. When ctx ends, follow abandons the call and
// returns the caller's error.
func (c *Client) follow(ctx context.Context, f *follower, take func(lines [][]byte) bool) (end ending, err error) {
	c.conns.submit(&f.call)
	for {
		lines, settled, cut := f.take()
		if len(lines) > 0 {
			f.tries, f.losses = 0, 0
		}
		switch {
		case len(lines) > 0 && !take(lines):
			c.unfollow(f)
			return endLeft, nil
		case len(lines) > 0:
			continue
		case cut:
			c.unfollow(f)
			return endCutOff, nil
		case settled:
			return endSettled, nil
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			handedOn, ours := c.conns.abandon(&f.call)
			if ours {
				return endContext, f.abandoned(ctx.Err(), handedOn)
			}
			f.await()
		}
	}
}

// retry pauses before a call that has come back is sent again. If it must not be sent
// again, again is false and err is the caller's error, or nil if the call holds a result.
func (c *Client) retry(ctx context.Context, f *follower) (again bool, err error) {
	var pause time.Duration
	if pause, again = f.call.retry(); !again {
		_, err = f.outcome()
		return false, err
	}
	if err := c.sleep(ctx, pause); err != nil {
		return false, f.notResent(err)
	}
	return true, nil
}

// unfollow abandons the call unless it has come back already.
func (c *Client) unfollow(f *follower) {
	if _, ours := c.conns.abandon(&f.call); !ours {
		f.await()
	}
}

// await waits for a call that is about to come back.
func (f *follower) await() {
	for {
		f.mu.Lock()
		settled := f.settled
		f.mu.Unlock()
		if settled {
			return
		}
		<-f.news
	}
}
