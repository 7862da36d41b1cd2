package client

import (
	"context"
	"time"
)

// waiter is a call whose owner waits for it.
type waiter struct {
	call
	scratch []byte // a buffer that lives as long as the waiter
	back    chan struct{}
}

// completed wakes the owner.
func (w *waiter) completed() { w.back <- struct{}{} }

// waiter returns a waiter for a new request.
func (c *Client) waiter() *waiter {
	w, _ := c.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{back: make(chan struct{}, 1)}
		w.owner = w
	}
	w.reset()
	return w
}

// exchange sends the call, sends it again if that is allowed, and returns its outcome.
// The waiter must not be used afterwards.
func (c *Client) exchange(ctx context.Context, w *waiter) ([]byte, error) {
	k := &w.call
	if err := checkContext(ctx); err != nil {
		return nil, err
	}
	for {
		c.conns.submit(k)
		select {
		case <-w.back:
		case <-ctx.Done():
			if sent, ours := c.conns.abandon(k); ours {
				return nil, k.abandoned(ctx.Err(), sent)
			}
			<-w.back
		}
		pause, again := k.retry()
		if !again {
			break
		}
		if err := c.sleep(ctx, pause); err != nil {
			return nil, k.notResent(err)
		}
	}
	raw, err := k.outcome()
	c.waiters.Put(w)
	return raw, err
}

// sleep pauses. If ctx would end during the pause, it returns an error at once, so that the
// caller gets the server's error before its context ends.
func (c *Client) sleep(ctx context.Context, pause time.Duration) error {
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
	case <-c.conns.done():
		return ErrClosed
	}
}
