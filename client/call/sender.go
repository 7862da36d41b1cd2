package call

import (
	"context"
	"sync"
	"time"

	"github.com/posta-tasks/posta/client/link"
)

// Sender sends calls and waits for them. It is safe for concurrent use.
type Sender struct {
	Links     *link.Set
	lineBytes int
	waiters   sync.Pool // of *Waiter
	checkers  sync.Pool // of *wire.Request
}

// NewSender makes a Sender over connections, for lines of at most so many bytes.
func NewSender(links *link.Set, lineBytes int) *Sender {
	return &Sender{Links: links, lineBytes: lineBytes}
}

// Waiter is a call whose owner waits for it.
type Waiter struct {
	Call
	Scratch []byte // a buffer that lives as long as the waiter
	back    chan struct{}
}

// Settled wakes the one who waits.
func (w *Waiter) Settled() { w.back <- struct{}{} }

// Waiter gives one that is ready for use.
func (s *Sender) Waiter() *Waiter {
	w, _ := s.waiters.Get().(*Waiter)
	if w == nil {
		w = &Waiter{back: make(chan struct{}, 1)}
		w.Owner = w
	}
	w.Reset()
	return w
}

// Exchange sends the call, again where that is allowed, and waits for its outcome.
// The waiter cannot be used afterwards.
func (s *Sender) Exchange(ctx context.Context, w *Waiter) ([]byte, error) {
	k := &w.Call
	if err := given(ctx); err != nil {
		return nil, err
	}
	for {
		s.Links.Submit(&k.Call)
		select {
		case <-w.back:
		case <-ctx.Done():
			if handedOn, ours := s.Links.Abandon(&k.Call); ours {
				return nil, k.GaveUp(ctx.Err(), handedOn)
			}
			<-w.back
		}
		pause, again := k.Again()
		if !again {
			break
		}
		if err := s.Sleep(ctx, pause); err != nil {
			return nil, k.Stopped(err)
		}
	}
	raw, err := k.Outcome()
	s.waiters.Put(w)
	return raw, err
}

// Sleep pauses. It returns at once with the reason when the pause would outlast ctx,
// so that the caller hears what the server said while it still listens.
func (s *Sender) Sleep(ctx context.Context, pause time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return context.DeadlineExceeded
	}
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.Links.Closed():
		return link.ErrClosed
	}
}
