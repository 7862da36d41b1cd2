// Package wait has what long-lived goroutines wait for: a signal, a time, or the end of a context.
package wait

import (
	"context"
	"time"
)

// Signal wakes one goroutine that receives from it. Setting it twice before the goroutine receives wakes it once.
type Signal chan struct{}

// NewSignal returns a signal that is not set.
func NewSignal() Signal { return make(Signal, 1) }

// Set sends the signal. It never blocks.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Clear undoes Set, if no goroutine has received the signal yet.
func (s Signal) Clear() {
	select {
	case <-s:
	default:
	}
}

// For waits for d. It returns false if ctx ends first.
func For(ctx context.Context, d time.Duration) bool { return ForOr(ctx, d, nil) }

// ForOr waits for d, or until signal is set. It returns false if ctx ends first.
func ForOr(ctx context.Context, d time.Duration, signal Signal) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-signal:
		return true
	case <-ctx.Done():
		return false
	}
}
