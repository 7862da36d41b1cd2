package executor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
)

func TestAnActionsTimeoutIsAnUpperBound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1}, actions.Action{
			Name: "bounded", Slow: true, Timeout: 2 * time.Second,
			Run: func(ctx context.Context, _ *actions.Call) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
		})
		for asked, want := range map[time.Duration]string{0: "2s", time.Hour: "2s", time.Second: "1s"} {
			result, err := e.Run(t.Context(), Task{Action: []byte("bounded"), Timeout: asked})
			if err != nil || string(result) != `{"ok":false,"error":"timed out after `+want+`"}` {
				t.Errorf("with a timeout of %s: %s, %v", asked, result, err)
			}
		}
	})
}

func TestActionsCanBeReplacedWhileTheyRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		answer := func(name, text string) actions.Action {
			return actions.Action{Name: name, Slow: true, Run: func(context.Context, *actions.Call) (any, error) { <-goOn; return text, nil }}
		}
		e := newExecutor(t, Config{Slots: 2, QuickSlots: 1}, answer("a", "old"))
		source, r := e.NewSource(), newResults()
		source.TryStart(newTask("1", "a", "null"), r.deliver)
		synctest.Wait()
		if err := e.SetActions(answer("b", "b"), answer("a", "new")); err != nil {
			t.Fatal(err)
		}
		source.TryStart(newTask("2", "a", "null"), r.deliver)
		source.TryStart(newTask("3", "echo", "null"), r.deliver)
		r.want(t, "3", `{"ok":false,"error":"unknown action echo"}`)
		goOn <- true
		r.want(t, "1", `{"ok":true,"data":"old"}`)
		goOn <- true
		r.want(t, "2", `{"ok":true,"data":"new"}`)
		if names := strings.Join(e.Actions(), " "); names != "a b" || e.Stats().ByAction["a"].Done != 2 {
			t.Errorf("actions %s; %+v", names, e.Stats().ByAction["a"])
		}
		if err := e.SetActions(answer("a", ""), answer("a", "")); err == nil || len(e.Actions()) != 2 {
			t.Errorf("a name that is there twice: %v, and the actions are %v", err, e.Actions())
		}
	})
}

func TestWhatWaitsForItsActionsOwnSlotsTakesNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		few := actions.Action{Name: "few", Slow: true, Slots: 1, Run: func(ctx context.Context, _ *actions.Call) (any, error) { <-ctx.Done(); return nil, ctx.Err() }}
		e := newExecutor(t, Config{Slots: 4, QuickSlots: 1}, few)
		source, r := e.NewSource(), newResults()
		for range 10 {
			source.TryStart(newTask("1", "few", "null"), r.deliver)
		}
		if free := e.Free(); free != 3 {
			t.Errorf("%d slots are free, want 3", free)
		}
		source.Cancel()
		synctest.Wait()
		checkIdle(t, e)
	})
}
