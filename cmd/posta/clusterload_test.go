package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// clusterLoad is callers that each have one task after the other run, durably and directly in turn.
// Every one of them must be answered, and with its own result.
type clusterLoad struct {
	stop    chan struct{}
	callers sync.WaitGroup
	done    atomic.Int64 // tasks that were answered as they should be
	failed  atomic.Int64
	again   atomic.Int64 // durable tasks that were started more than once
}

// startLoad starts it; end ends it.
func startLoad(t *testing.T, c *client.Client) *clusterLoad {
	const callers = 8
	l := &clusterLoad{stop: make(chan struct{})}
	for i := range callers {
		l.callers.Go(func() {
			for n := 0; l.goesOn(); n++ {
				text := fmt.Sprintf("x-%d-%d", i, n)
				if err := l.ask(t, c, text, n%2 == 0); err != nil {
					l.failed.Add(1)
					t.Errorf("%s: %v", text, err)
					return
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

func (l *clusterLoad) goesOn() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

// ask has one text made upper case.
func (l *clusterLoad) ask(t *testing.T, c *client.Client, text string, durably bool) error {
	var got string
	if durably {
		key := client.EnqueueOptions{Key: t.Name() + text}
		final, err := c.EnqueueWait(t.Context(), "upper", text, key, nil)
		if err != nil {
			return fmt.Errorf("durably: %w", err)
		}
		if final.State != task.Done {
			return fmt.Errorf("durably: %+v", final)
		}
		if final.Attempt > 1 {
			l.again.Add(1)
		}
		_ = final.Result.Data(&got) // what is not there is not what was asked for
	} else {
		result, err := c.Do(t.Context(), client.Request{Action: "upper", Payload: fmt.Appendf(nil, "%q", text), Resend: true})
		if err != nil {
			return fmt.Errorf("directly: %w", err)
		}
		_ = result.Data(&got)
	}
	if want := "X" + text[1:]; got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// await waits until so many more tasks were answered.
func (l *clusterLoad) await(t *testing.T, more int64) {
	t.Helper()
	before := l.done.Load()
	testenv.Eventually(t, clusterPatience, func() error {
		if l.failed.Load() > 0 {
			t.FailNow()
		}
		if now := l.done.Load(); now < before+more {
			return fmt.Errorf("%d tasks were answered, want %d", now-before, more)
		}
		return nil
	})
}

// end ends the load when what was asked for is answered.
func (l *clusterLoad) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.callers.Wait()
	t.Logf("%d tasks were asked for under load, and each was answered; %d were started more than once", l.done.Load(), l.again.Load())
}
