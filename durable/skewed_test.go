package durable_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// The clock of PostgreSQL is another one than that of a node. Delays, backoffs, run_at and expires are by the store's.
func TestANodeWhoseClockIsAnHourOffKeepsTheTimesOfPostgreSQL(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepsTheStoresTimes(t, server.URL()+"&search_path="+name, skew)
		})
	}
}

func keepsTheStoresTimes(t *testing.T, url string, skew time.Duration) {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	registry, err := actions.NewRegistry(actions.Action{Name: "second", Slow: true, Run: func(_ context.Context, call *actions.Call) (any, error) {
		if call.Attempt < 2 {
			return nil, errors.New("not yet")
		}
		return call.Attempt, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := executor.New(executor.Config{Registry: registry, Slots: 8})
	if err != nil {
		t.Fatal(err)
	}
	e, err := durable.New(durable.Config{
		Store: s, Executor: exec, Node: "n1", Shared: true, Jitter: func() float64 { return 1 },
		Now: func() time.Time { return time.Now().Add(skew) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, exec.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	const wait = 500 * time.Millisecond
	backoff := task.Options{Backoff: wait, BackoffMax: wait}
	delayed, timed, expires := backoff, backoff, backoff
	delayed.Delay, timed.RunAt, expires.ExpiresIn = wait, time.Now().Add(wait), 10*time.Minute // the server has the clock of this machine
	for name, options := range map[string]task.Options{"backoff": backoff, "delay": delayed, "run_at": timed, "expires": expires} {
		accepted := acceptAtLast(t.Context(), e, []durable.Request{{Action: "second", Options: options}})[0]
		if accepted.Refusal != nil {
			t.Fatalf("%s: %v", name, accepted.Refusal)
		}
		got, refusal := e.Wait(t.Context(), accepted.Task.ID)
		if refusal != nil || got.State != task.Done || got.Attempt != 2 {
			t.Fatalf("%s: the task is %s in attempt %d: %s (%v)", name, got.State, got.Attempt, got.Error, refusal)
		}
		if took := got.FinishedAt.Sub(got.CreatedAt); took < wait || took > 30*time.Minute {
			t.Errorf("%s: it took %s", name, took)
		}
		if late := got.StartedAt.Sub(got.RunAt); late < 0 || late > 30*time.Minute {
			t.Errorf("%s: attempt 2 began %s after its time", name, late)
		}
	}
	again := e.Accept(t.Context(), []durable.Request{{Action: "unheard of", Options: task.Options{ExpiresIn: wait}}})[0]
	got, refusal := e.Wait(t.Context(), again.Task.ID)
	if refusal != nil || got.Code != task.Expired || got.FinishedAt.Sub(got.CreatedAt) > 30*time.Minute {
		t.Errorf("it expires after %s: %+v, %v", wait, got, refusal)
	}
}
