package durable_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

func TestARecordWarnsAsLongAsNoNodeHasTheAction(t *testing.T) {
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

func TestAListIsBoundedByWhenTasksWereCreated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		var all []task.Task
		for range 5 {
			all = append(all, w.accept(n, "ok", task.Options{Keep: 30 * 24 * time.Hour}))
			w.after(24 * time.Hour) // beyond what clocks may be apart
		}
		query := durable.Query{Since: all[1].CreatedAt, Until: all[3].CreatedAt, Limit: 2}
		var got []string
		for pages := 0; pages == 0 || query.Cursor != ""; pages++ {
			page, refusal := n.List(t.Context(), query)
			if refusal != nil || pages > 2 {
				t.Fatalf("page %d: %v", pages, refusal)
			}
			for i := range page.Tasks {
				got = append(got, page.Tasks[i].ID)
			}
			query.Cursor = page.Cursor
		}
		if want := []string{all[3].ID, all[2].ID, all[1].ID}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, none := range []durable.Query{
			{Since: all[4].CreatedAt.Add(time.Millisecond), Limit: 9}, {Until: all[0].CreatedAt.Add(-time.Millisecond), Limit: 9},
			{Since: time.Unix(1<<40, 0), Limit: 9}, {Until: time.Unix(-1<<30, 0), Limit: 9},
		} {
			if page, refusal := n.List(t.Context(), none); refusal != nil || len(page.Tasks) != 0 {
				t.Errorf("since %s until %s: got %v (%v)", none.Since, none.Until, page.Tasks, refusal)
			}
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
