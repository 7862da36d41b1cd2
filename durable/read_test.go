package durable_test

import (
	"context"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

func TestARecordSaysThatNobodyHasTheActionForAsLongAsThatIsSo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Actions = []string{"ok"} })
		served, waits := w.accept(n, "ok"), w.accept(n, "fail", task.Options{MaxAttempts: 1})
		w.finished(n, served.ID)
		const want = "no live node has the action fail; the task waits for one"
		if got, refusal := n.Get(t.Context(), waits.ID, false); refusal != nil || got.Warning != want {
			t.Errorf("get says %q (%v)", got.Warning, refusal)
		}
		page, refusal := n.List(t.Context(), durable.Query{Limit: 10})
		if refusal != nil || len(page.Tasks) != 2 || page.Tasks[0].Warning != want || page.Tasks[1].Warning != "" {
			t.Errorf("list says %+v (%v)", page.Tasks, refusal)
		}
		w.node("b")
		w.finished(n, waits.ID)
		if got, refusal := n.Get(t.Context(), waits.ID, false); refusal != nil || got.Warning != "" {
			t.Errorf("get says %q of a task that has ended (%v)", got.Warning, refusal)
		}
	})
}

func TestAWaitWithoutTimeGivesTheTaskAsItStands(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "ok", task.Options{RunAt: time.Now().Add(time.Hour)}).ID
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		if got, refusal := n.Wait(ctx, id); refusal != nil || got.State != task.Scheduled {
			t.Errorf("got %+v (%v)", got, refusal)
		}
		if _, refusal := n.Wait(ctx, "nothing"); refusal == nil || refusal.Code != task.NotFound {
			t.Errorf("of nothing: got %v", refusal)
		}
	})
}

func TestACursorThatNoPageGaveIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		for range 3 {
			w.accept(n, "ok")
		}
		page, refusal := n.List(t.Context(), durable.Query{Limit: 2})
		if refusal != nil || len(page.Tasks) != 2 {
			t.Fatalf("got %+v (%v)", page, refusal)
		}
		if page, refusal = n.List(t.Context(), durable.Query{Limit: 2, Cursor: page.Cursor}); refusal != nil || len(page.Tasks) != 1 {
			t.Errorf("the next page: got %+v (%v)", page, refusal)
		}
		for _, cursor := range []string{"x", "01JE", "01m8a8g65kndrm4ms1j4p5m6n!", "'; drop table tasks; --"} {
			if _, refusal := n.List(t.Context(), durable.Query{Limit: 2, Cursor: cursor}); refusal == nil || refusal.Field != "cursor" {
				t.Errorf("%s: got %v", cursor, refusal)
			}
		}
	})
}
