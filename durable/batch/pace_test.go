package batch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
)

func TestAPaceDelaysOnlyAnEarlyCallWithFewItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, start := batch.Pace{Every: 4 * time.Millisecond}, time.Now()
		at := func(worthy bool) time.Duration {
			if !p.Keep(t.Context(), worthy) {
				t.Fatal("the context goes on")
			}
			return time.Since(start)
		}
		first, soon, worthy := at(false), at(false), at(true)
		<-time.After(10 * time.Millisecond)
		if late := at(false); first != 0 || soon != 4*time.Millisecond || worthy != soon || late != soon+10*time.Millisecond {
			t.Errorf("calls began at %v, %v, %v and %v", first, soon, worthy, late)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if p.Keep(ended, false) {
			t.Error("a call began after the end")
		}
	})
}

// A store to which a call costs more than what is in it is asked by one call at a time, unless many wait, or that call
// takes long.
func TestManyCallersOpenAnotherCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		asked int
		calls int // after a moment, while the first one is under way
		late  int // after a while
	}{
		"a few wait":   {9, 1, 2},
		"many callers": {50, 2, 2},
		"nobody else":  {0, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := make(chan []int, 9)
				g := batch.New(batch.Config[int, int]{Most: 50, Timeout: time.Minute, ConcurrentFrom: 20, Call: func(ctx context.Context, list []int) ([]int, error) {
					calls <- list
					<-time.After(time.Second)
					return list, nil
				}})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); g.Run(ctx) }()
				ask := func(n int) { go func() { _, _ = g.Ask(ctx, make([]int, n)) }() }
				ask(1)
				<-time.After(time.Millisecond)
				if test.asked > 0 {
					ask(test.asked)
				}
				<-time.After(time.Millisecond)
				if n := len(calls); n != test.calls {
					t.Errorf("%d calls at once, want %d", n, test.calls)
				}
				<-time.After(500 * time.Millisecond)
				if n := len(calls); n != test.late {
					t.Errorf("%d calls while the first is slow, want %d", n, test.late)
				}
				<-time.After(2 * time.Second)
				cancel()
				<-ended
			})
		})
	}
}
