package call

import (
	"context"
	"sync"
	"time"

	"github.com/posta-tasks/posta/client/link"
)

// keptLines is how many lines of a reply are kept for a caller that is slow. One that is
// slower is cut off, and may ask again from where it was.
const keptLines = 256

// Follower is a call whose reply has several lines. It is used once, since a line may
// still come when it has been abandoned.
type Follower struct {
	Call
	news chan struct{} // holds one

	mu      sync.Mutex // guards what follows; no other lock is taken while it is held
	lines   [][]byte   // that were heard and not taken
	cut     bool       // more lines came than are kept
	settled bool
}

// Past is how often a request has come back since a line of it was heard, for a follower
// that goes on.
type Past struct{ tries, losses int }

// NewFollower makes one that goes on where others of the same request stopped.
func NewFollower(shape link.Shape, past Past) *Follower {
	f := &Follower{news: make(chan struct{}, 1)}
	f.Owner, f.Call.Heard, f.Shape = f, f.hear, shape
	f.tries, f.losses = past.tries, past.losses
	return f
}

// Past gives how often the request has come back since a line was heard.
func (f *Follower) Past() Past { return Past{f.tries, f.losses} }

// hear keeps a line.
func (f *Follower) hear(line []byte) {
	f.mu.Lock()
	f.cut = f.cut || len(f.lines) == keptLines
	if !f.cut {
		f.lines = append(f.lines, line)
	}
	f.mu.Unlock()
	f.wake()
}

// Settled wakes the one who follows.
func (f *Follower) Settled() {
	f.mu.Lock()
	f.settled = true
	f.mu.Unlock()
	f.wake()
}

func (f *Follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// take gives the lines that have come, and says whether there will be more.
func (f *Follower) take() (lines [][]byte, settled, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, f.lines = f.lines, nil
	return lines, f.settled, f.cut
}

// Ending says why following a call has ended.
type Ending uint8

// The endings.
const (
	Settled Ending = iota // the call has come back; the last line is in it
	CutOff                // the caller was slow and lines were lost
	Left                  // the caller has enough
	Gone                  // ctx ended
)

// Follow sends the call once and hands on the lines that come, those that came together
// at once, until take has enough. When ctx ends the call is abandoned, and err says what
// the caller of such a call is told.
func (s *Sender) Follow(ctx context.Context, f *Follower, take func(lines [][]byte) bool) (end Ending, err error) {
	s.Links.Submit(&f.Call.Call)
	for {
		lines, settled, cut := f.take()
		if len(lines) > 0 {
			f.tries, f.losses = 0, 0
		}
		switch {
		case len(lines) > 0 && !take(lines):
			s.abandon(f)
			return Left, nil
		case len(lines) > 0:
			continue
		case cut:
			s.abandon(f)
			return CutOff, nil
		case settled:
			return Settled, nil
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			handedOn, ours := s.Links.Abandon(&f.Call.Call)
			if ours {
				return Gone, f.GaveUp(ctx.Err(), handedOn)
			}
			f.await()
		}
	}
}

// Again pauses before a call that has come back is sent once more. When it is not to be,
// again is false, and err says what the caller is told; nil: what is in the call.
func (s *Sender) Again(ctx context.Context, f *Follower) (again bool, err error) {
	var pause time.Duration
	if pause, again = f.Call.Again(); !again {
		_, err = f.Outcome()
		return false, err
	}
	if err := s.Sleep(ctx, pause); err != nil {
		return false, f.Stopped(err)
	}
	return true, nil
}

// abandon takes the call back unless it has come back already.
func (s *Sender) abandon(f *Follower) {
	if _, ours := s.Links.Abandon(&f.Call.Call); !ours {
		f.await()
	}
}

// await waits for a call that is about to come back.
func (f *Follower) await() {
	for {
		f.mu.Lock()
		back := f.settled
		f.mu.Unlock()
		if back {
			return
		}
		<-f.news
	}
}
