package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/durable/ahead"
)

// feed launches what waits as slots become free, until ctx ends.
func (e *Engine) feed(ctx context.Context) {
	timer := time.NewTimer(ahead.Patience)
	defer timer.Stop()
	for {
		select {
		case <-e.slots:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		e.launchNext(ctx)
		e.giveBack(ahead.Patience)
		if e.ahead.Len() > 0 {
			timer.Reset(ahead.Patience)
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
