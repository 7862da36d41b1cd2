package client

import (
	"context"
	"sync"
	"time"
)

// maxBufferedLines is how many lines of a reply wait for a slow caller. Then the follower
// overflows, and the caller may send the request again from where it was.
const maxBufferedLines = 256

// follower is a call whose reply has several lines. It is used once, since a line may
// still arrive after it was abandoned.
type follower struct {
	call
	wakeup chan struct{} // has a buffer of one

	mu         sync.Mutex // guards the fields below; no other lock is taken while it is held
	lines      [][]byte   // lines that were received and not yet taken
	overflowed bool       // lines were dropped
	settled    bool       // the call is completed
}

// resends counts how many times a request was completed since its last line. It passes from
// one follower to the next.
type resends struct{ tries, losses int }

// newFollower returns a follower that continues the count of earlier ones.
func newFollower(shape shape, past resends) *follower {
	f := &follower{wakeup: make(chan struct{}, 1)}
	f.owner, f.received, f.shape = f, f.keep, shape
	f.tries, f.losses = past.tries, past.losses
	return f
}

// resends returns how many times the request was completed since its last line.
func (f *follower) resends() resends { return resends{f.tries, f.losses} }

// keep stores a line for the caller.
func (f *follower) keep(line []byte) {
	f.mu.Lock()
	f.overflowed = f.overflowed || len(f.lines) == maxBufferedLines
	if !f.overflowed {
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
	case f.wakeup <- struct{}{}:
	default:
	}
}

// take removes and returns the lines that have arrived.
func (f *follower) take() (lines [][]byte, settled, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, f.lines = f.lines, nil
	return lines, f.settled, f.overflowed
}

// ending is why follow has returned.
type ending uint8

// The endings.
const (
	endSettled ending = iota // the call is completed and holds the last line
	endTooSlow               // the caller was too slow, and lines were dropped
	endLeft                  // take returned false
	endContext               // ctx ended
)

// follow sends the call once and passes its lines to take until take returns false. Lines
// that arrived together are passed together. When ctx ends, follow abandons the call and
// returns the error for the caller.
func (c *Client) follow(ctx context.Context, f *follower, take func(lines [][]byte) bool) (end ending, err error) {
	c.conns.submit(&f.call)
	for {
		lines, settled, overflowed := f.take()
		if len(lines) > 0 {
			f.tries, f.losses = 0, 0
		}
		switch {
		case len(lines) > 0 && !take(lines):
			c.unfollow(f)
			return endLeft, nil
		case len(lines) > 0:
			continue
		case overflowed:
			c.unfollow(f)
			return endTooSlow, nil
		case settled:
			return endSettled, nil
		}
		select {
		case <-f.wakeup:
		case <-ctx.Done():
			sent, ours := c.conns.abandon(&f.call)
			if ours {
				return endContext, f.abandoned(ctx.Err(), sent)
			}
			f.await()
		}
	}
}

// retry pauses before a completed call is sent again. If it must not be sent again, again is
// false and err is the error for the caller, or nil if the call holds a result.
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

// unfollow abandons the call unless it is completed already.
func (c *Client) unfollow(f *follower) {
	if _, ours := c.conns.abandon(&f.call); !ours {
		f.await()
	}
}

// await waits for a call that is about to be completed.
func (f *follower) await() {
	for {
		f.mu.Lock()
		settled := f.settled
		f.mu.Unlock()
		if settled {
			return
		}
		<-f.wakeup
	}
}
