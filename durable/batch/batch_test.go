package batch_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double answers each number with its double after a second, and counts its calls.
func double(calls *atomic.Int32) func(context.Context, []int) ([]int, error) {
	return func(ctx context.Context, list []int) ([]int, error) {
		calls.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, task.Refuse(task.Unavailable, "too late")
		}
		answers := make([]int, len(list))
		for i, n := range list {
			answers[i] = 2 * n
		}
		return answers, nil
	}
}

// inBubble runs a test with a batcher that doubles.
func inBubble(t *testing.T, test func(t *testing.T, g *batch.Batcher[int, int], calls *atomic.Int32, stop func())) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		g := batch.New(batch.Config[int, int]{Call: double(&calls), Most: 50, Timeout: time.Minute})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.Run(ctx)
		}()
		stop := func() {
			cancel()
			<-ended
		}
		defer stop()
		test(t, g, &calls, stop)
	})
}

func TestManyCallersShareCallsAndEachGetsItsOwnAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, g *batch.Batcher[int, int], calls *atomic.Int32, _ func()) {
		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				got, err := g.Ask(t.Context(), []int{i, i + 1})
				if err != nil || len(got) != 2 || got[0] != 2*i || got[1] != 2*i+2 {
					t.Errorf("asked for %d, got %v, %v", i, got, err)
				}
			})
		}
		callers.Wait()
		if n := calls.Load(); n > 9 {
			t.Errorf("%d calls for two hundred questions, fifty in each", n)
		}
	})
}

func TestACallerThatGivesUpLearnsWhetherItsQuestionWasAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, g *batch.Batcher[int, int], _ *atomic.Int32, _ func()) {
		for range 4 { // as many as may be under way
			go func() { _, _ = g.Ask(t.Context(), make([]int, 50)) }()
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := g.Ask(ctx, []int{1}); task.CodeOf(err) != task.Unavailable {
			t.Errorf("a question that waited: %v", err)
		}
		<-time.After(time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := g.Ask(ctx, []int{1}); task.CodeOf(err) != task.UnknownOutcome {
			t.Errorf("a question that was asked: %v", err)
		}
		<-time.After(time.Second)
	})
}

func TestEveryCallerIsAnsweredWhenItStops(t *testing.T) {
	inBubble(t, func(t *testing.T, g *batch.Batcher[int, int], _ *atomic.Int32, stop func()) {
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				_, err := g.Ask(t.Context(), make([]int, 50))
				if code := task.CodeOf(err); code != task.Draining && code != task.Unavailable {
					t.Errorf("it ended with %v", err)
				}
			})
		}
		synctest.Wait()
		stop()
		callers.Wait()
		if _, err := g.Ask(t.Context(), []int{1}); task.CodeOf(err) != task.Draining {
			t.Errorf("a question afterwards: %v", err)
		}
	})
}
