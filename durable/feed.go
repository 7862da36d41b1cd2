package durable

import (
	"context"
	"time"
)

// feed launches what waits as slots become free, until ctx ends.
func (e *Engine) feed(ctx context.Context) {
	timer := time.NewTimer(prefetchPatience)
	defer timer.Stop()
	for {
		select {
		case <-e.slots:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		e.launchNext(ctx)
		e.giveBack(prefetchPatience)
		if e.ahead.Len() > 0 {
			timer.Reset(prefetchPatience)
		}
	}
}

// launchNext starts attempts as long as there are slots.
func (e *Engine) launchNext(ctx context.Context) {
	for h := e.ahead.Next(); h != nil; h = e.ahead.Next() {
		e.start(ctx, h)
	}
}

// giveBack releases tasks that have waited too long.
func (e *Engine) giveBack(patience time.Duration) {
	for _, h := range e.ahead.Late(patience) {
		e.abandon(h)
	}
}
