package batch

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
)

// Pace keeps calls that carry little from following each other too closely: under load more comes meanwhile, and
// whoever calls less often does not wait. It is for one goroutine.
type Pace struct {
	Every time.Duration // between the beginnings of two calls; 0: no pace
	last  time.Time
}

// Keep waits until the next call may begin, and tells whether ctx goes on. A call that is worth it begins at once.
func (p *Pace) Keep(ctx context.Context, worthy bool) bool {
	if left := p.Every - time.Since(p.last); p.Every > 0 && left > 0 && !worthy {
		wait.For(ctx, left)
	}
	p.last = time.Now()
	return ctx.Err() == nil
}
