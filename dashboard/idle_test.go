package dashboard

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheStoreIsAskedOnceAMinuteWhileNobodyLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{store: true}
		s := serve(t, source, func(c *Config) { c.Now = time.Now })
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute+30*time.Second)
		defer stop()
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		running.Wait()
		if n := source.reads.Load(); n != 6 {
			t.Errorf("the store was asked %d times in 5.5 minutes, want 6", n)
		}
	})
}
