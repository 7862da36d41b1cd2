package durable_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// What gets past the doors, and what actions say, on the stores themselves.

func TestTextsThatSQLiteKeepsHarmNoNeighbours(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(sqlite.Config{Path: filepath.Join(t.TempDir(), "posta.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	textsHarmNobody(t, s)
}

func TestTextsThatPostgreSQLCannotKeepHarmNoNeighbours(t *testing.T) {
	t.Parallel()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: testenv.StartPostgres(t).URL(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	textsHarmNobody(t, s)
}

// textsHarmNobody has tasks accepted beside some that no store should get, and worked by actions that say
// what no store should keep.
func textsHarmNobody(t *testing.T, s store.Store) {
	t.Helper()
	const odd = "a\x00b\xffc"
	say := func(name string, run actions.Func) actions.Action {
		return actions.Action{Name: name, Slow: true, Run: run}
	}
	registry, err := actions.NewRegistry(
		say("good", func(context.Context, *actions.Call) (any, error) { return "fine", nil }),
		say("result", func(context.Context, *actions.Call) (any, error) { return odd, nil }),
		say("error", func(context.Context, *actions.Call) (any, error) { return nil, errors.New(odd) }),
		say("panic", func(context.Context, *actions.Call) (any, error) { panic(odd) }),
		say("progress", func(_ context.Context, call *actions.Call) (any, error) { call.Report(50, odd); return "told", nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := executor.New(executor.Config{Registry: registry, Slots: 8})
	if err != nil {
		t.Fatal(err)
	}
	e, err := durable.New(durable.Config{Store: s, Executor: exec, Node: "n1", Shared: true})
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
	var wait sync.WaitGroup
	for caller := range 20 {
		wait.Go(func() {
			bad := durable.Request{Action: "good", Options: task.Options{Key: fmt.Sprint("k\x00", caller), MaxAttempts: 1}}
			list := []durable.Request{bad}
			for _, action := range []string{"good", "result", "error", "panic", "progress"} {
				list = append(list, durable.Request{Action: action, Options: task.Options{MaxAttempts: 1}})
			}
			for i, a := range acceptAtLast(ctx, e, list) {
				if i == 0 {
					if a.Refusal != nil && a.Refusal.Code != task.Internal {
						t.Errorf("the bad one: %v", a.Refusal)
					}
					continue
				}
				if a.Refusal != nil {
					t.Errorf("%s: %v", list[i].Action, a.Refusal)
					continue
				}
				wantTexts(t, e, list[i].Action, a.Task.ID)
			}
		})
	}
	wait.Wait()
}

// acceptAtLast has the engine accept a list, again when the store of a busy machine did not answer in time.
func acceptAtLast(ctx context.Context, e *durable.Engine, list []durable.Request) []durable.Accepted {
	for {
		accepted := e.Accept(ctx, list)
		if !slices.ContainsFunc(accepted, func(a durable.Accepted) bool {
			return a.Refusal != nil && (a.Refusal.Code == task.Unavailable || a.Refusal.Code == task.UnknownOutcome)
		}) {
			return accepted
		}
	}
}

// wantTexts waits for a task and checks what is kept of what its action said.
func wantTexts(t *testing.T, e *durable.Engine, action, id string) {
	t.Helper()
	const clean = "a\uFFFDb\uFFFDc"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	now, refusal := e.Wait(ctx, id)
	if refusal != nil {
		t.Errorf("%s: %v", action, refusal)
		return
	}
	switch action {
	case "error":
		if now.State != task.Failed || now.Error != clean {
			t.Errorf("%s: %s, %q", action, now.State, now.Error)
		}
	case "panic":
		if now.State != task.Failed || task.CheckText("error", now.Error) != nil {
			t.Errorf("%s: %s, %q", action, now.State, now.Error)
		}
	case "progress":
		if now.State != task.Done || now.Progress.Message != clean && now.Progress != (task.Progress{}) {
			t.Errorf("%s: %s, %+v", action, now.State, now.Progress)
		}
	default:
		if want := map[string]string{"good": `{"ok":true,"data":"fine"}`, "result": `{"ok":true,"data":"a\u0000b\ufffdc"}`}[action]; now.State != task.Done || string(now.Result.Inline) != want {
			t.Errorf("%s: %s, %s", action, now.State, now.Result.Inline)
		}
	}
}
