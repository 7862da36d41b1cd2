package executor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
)

func TestAnAttemptTellsHowItEnded(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 2)
	registry, err := actions.NewRegistry(
		actions.New("which", func(_ context.Context, call *actions.Call) (any, error) { return []any{call.Task, call.Attempt}, nil }),
		actions.New("never", func(context.Context, *actions.Call) (any, error) { return nil, actions.Permanent(errors.New("no")) }),
		actions.New("later", func(context.Context, *actions.Call) (any, error) {
			return nil, actions.RetryAfter(errors.New("busy"), time.Minute)
		}),
		actions.New("panic", func(context.Context, *actions.Call) (any, error) { panic("oh") }),
		actions.New("large", func(context.Context, *actions.Call) (any, error) { return "0123456789", nil }),
		actions.New("wait", func(ctx context.Context, _ *actions.Call) (any, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Registry: registry, Slots: 1, QuickSlots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close(context.Background()) }()
	source, endings := e.NewSource(), make(chan executor.Ending, 2)
	run := func(action string, number int) executor.Ending {
		t.Helper()
		attempt := executor.Attempt{
			Task: executor.Task{ID: []byte("T"), Action: []byte(action), Timeout: time.Minute}, Number: number, Fence: number, MaxResult: 30,
		}
		if action == "wait" && number == 1 {
			attempt.Timeout = 50 * time.Millisecond
		}
		attempt.Enter = func(string) bool { return action != "refused" }
		if action == "refused" {
			attempt.Action = []byte("which")
		}
		if !source.TryAttempt(attempt, func(ending executor.Ending) { endings <- ending }) {
			t.Fatal("there is no place")
		}
		if action == "wait" && number == 2 {
			<-entered // of the first one
			<-entered
			source.CancelTask([]byte("T"), 1) // of another claim
			source.CancelTask([]byte("T"), 2)
		}
		return <-endings
	}
	if got := run("which", 3); got.Outcome != executor.Done || got.Err != nil || string(got.Result) != `{"ok":true,"data":["T",3]}` {
		t.Errorf("which: %+v %s", got, got.Result)
	}
	if got := run("never", 1); got.Outcome != executor.Failed || !actions.IsPermanent(got.Err) || got.Err.Error() != "no" {
		t.Errorf("never: %+v", got)
	}
	if got := run("later", 1); got.Err == nil || got.Err.Error() != "busy" {
		t.Errorf("later: %+v", got)
	} else if delay, said := actions.RetryDelay(got.Err); !said || delay != time.Minute {
		t.Errorf("later: it is tried again after %s (%t)", delay, said)
	}
	if got := run("panic", 1); got.Outcome != executor.Panicked || actions.IsPermanent(got.Err) || got.Err.Error() != "action panic panicked: oh" {
		t.Errorf("panic: %+v", got)
	}
	var large *executor.TooLargeError
	if got := run("large", 1); got.Outcome != executor.Failed || !errors.As(got.Err, &large) || large.Bytes != 31 || large.Most != 30 {
		t.Errorf("a result beyond its limit: %+v", got)
	}
	if got := run("nothing", 1); got.Outcome != executor.NotEntered || got.Err != nil || e.Stats().ByAction[executor.Unknown].Failed != 0 {
		t.Errorf("nothing: %+v", got)
	}
	if got := run("wait", 1); got.Outcome != executor.TimedOut || got.Err.Error() != "timed out after 0.05s" {
		t.Errorf("a wait: %+v", got)
	}
	if got := run("wait", 2); got.Outcome != executor.Cancelled {
		t.Errorf("a wait that is cancelled: %+v", got)
	}
	before := e.Stats().ByAction["which"]
	if got := run("refused", 1); got.Outcome != executor.NotEntered || e.Stats().ByAction["which"].Done != before.Done {
		t.Errorf("one that is not entered: %+v", got)
	}
	if free := e.Free(); free < 0 || free > 1 {
		t.Errorf("%d slots are free", free)
	}
}

func TestACancelEndsTheAttemptOfItsClaimOnly(t *testing.T) {
	t.Parallel()
	entered, finish := make(chan struct{}, 2), make(chan struct{})
	registry, err := actions.NewRegistry(actions.Action{Name: "wait", Slow: true, Run: func(ctx context.Context, _ *actions.Call) (any, error) {
		entered <- struct{}{}
		select {
		case <-finish:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Registry: registry, Slots: 2, QuickSlots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close(context.Background()) }()
	source, endings := e.NewSource(), make(chan executor.Ending, 2)
	for _, fence := range []int{1, 2} { // the first claim was given up before its action was entered, so that the second has its number
		attempt := executor.Attempt{Task: executor.Task{ID: []byte("T"), Action: []byte("wait"), Timeout: time.Minute}, Number: 1, Fence: fence}
		if !source.TryAttempt(attempt, func(ending executor.Ending) { endings <- ending }) {
			t.Fatal("there is no place")
		}
		<-entered
	}
	source.CancelTask([]byte("T"), 1)
	if got := <-endings; got.Outcome != executor.Cancelled {
		t.Errorf("the claim that is cancelled: %+v", got)
	}
	close(finish)
	if got := <-endings; got.Outcome != executor.Done {
		t.Errorf("the other claim: %+v", got)
	}
}
