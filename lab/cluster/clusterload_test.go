package cluster_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// caller asks for one thing, the n-th of his, and says what is wrong with the answer.
type caller func(n int) error

// clusterLoad is callers that each ask for one thing after the other. Every one of them must be
// answered, and with what he asked for.
type clusterLoad struct {
	stop    func() // may be called twice
	stopped chan struct{}
	callers sync.WaitGroup
	done    atomic.Int64 // what was answered as it should be
	failed  atomic.Int64
}

// startCallers starts a load; end ends it, or the end of the test.
func startCallers(t *testing.T, callers []caller) *clusterLoad {
	l := &clusterLoad{stopped: make(chan struct{})}
	l.stop = sync.OnceFunc(func() { close(l.stopped) })
	t.Cleanup(func() {
		l.stop()
		l.callers.Wait()
	})
	for i, ask := range callers {
		l.callers.Go(func() {
			for n := 0; l.goesOn(); n++ {
				if err := ask(n); err != nil {
					l.failed.Add(1)
					t.Errorf("caller %d, request %d: %v", i, n, err)
					return
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

// startLoad has eight callers of a client have texts made upper case, durably and directly in turn.
func startLoad(t *testing.T, c *client.Client) *clusterLoad {
	callers := make([]caller, 8)
	for i := range callers {
		callers[i] = func(n int) error {
			text := fmt.Sprintf("x-%s-%d-%d", t.Name(), i, n)
			if n%2 == 0 {
				return upperDurably(t, c, text)
			}
			return upperDirectly(t, c, text)
		}
	}
	return startCallers(t, callers)
}

func (l *clusterLoad) goesOn() bool {
	select {
	case <-l.stopped:
		return false
	default:
		return true
	}
}

// upperDurably has one text made upper case by a durable task.
func upperDurably(t *testing.T, c *client.Client, text string) error {
	final, err := c.EnqueueWait(t.Context(), "upper", text, client.EnqueueOptions{Key: text}, nil)
	if err != nil {
		return fmt.Errorf("durably: %w", err)
	}
	if final.State != task.Done {
		return fmt.Errorf("durably: %+v", final)
	}
	return isUpper(text, final.Result)
}

// upperDirectly has one text made upper case at once.
func upperDirectly(t *testing.T, c *client.Client, text string) error {
	result, err := c.Do(t.Context(), client.Request{Action: "upper", Payload: fmt.Appendf(nil, "%q", text), Resend: true})
	if err != nil {
		return fmt.Errorf("directly: %w", err)
	}
	return isUpper(text, result)
}

func isUpper(text string, result client.Result) error {
	var got string
	if err := result.Data(&got); err != nil {
		return err
	}
	if want := strings.ToUpper(text); got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// await waits until so many more requests were answered.
func (l *clusterLoad) await(t *testing.T, more int64) {
	t.Helper()
	before := l.done.Load()
	testenv.Eventually(t, clusterPatience, func() error {
		if l.failed.Load() > 0 {
			t.FailNow()
		}
		if now := l.done.Load(); now < before+more {
			return fmt.Errorf("%d requests were answered, want %d", now-before, more)
		}
		return nil
	})
}

// end ends the load when what was asked for is answered.
func (l *clusterLoad) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.callers.Wait()
	t.Logf("%d requests under load, %d of them failed", l.done.Load()+l.failed.Load(), l.failed.Load())
}
