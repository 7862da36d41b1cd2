package batch

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
)

// Pace keeps small calls from following each other too quickly. Under load more items join the next call meanwhile.
// A caller that calls less often does not wait. One goroutine may use it.
type Pace struct {
	Every time.Duration // least time between the beginnings of two calls; 0: none
	last  time.Time
}

// Keep waits until the next call may begin. It returns false if ctx ends. A large call begins at once.
func (p *Pace) Keep(ctx context.Context, worthy bool) bool {
	if left := p.Every - time.Since(p.last); p.Every > 0 && left > 0 && !worthy {
		wait.For(ctx, left)
	}
	p.last = time.Now()
	return ctx.Err() == nil
}
