package durable_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func TestAConfigurationThatCannotWorkIsRefusedByName(t *testing.T) {
	t.Parallel()
	registry, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := executor.New(executor.Config{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Close(t.Context()) })
	memory := store.NewMemory(store.MemoryConfig{})
	cases := []struct {
		config durable.Config
		want   string
	}{
		{durable.Config{Executor: exec, Node: "a"}, "a store"},
		{durable.Config{Store: memory, Node: "a"}, "an executor"},
		{durable.Config{Store: memory, Executor: exec}, "name of the node"},
		{durable.Config{Store: memory, Executor: exec, Node: "a", Slots: -1}, "slots"},
		{durable.Config{Store: memory, Executor: exec, Node: "a", Actions: []string{"fly"}}, `no action "fly"`},
		{durable.Config{Store: memory, Executor: exec, Node: "a", Queues: map[string]durable.QueueRule{"q": {Running: -1}}}, "queue q"},
	}
	for _, c := range cases {
		if _, err := durable.New(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error that names %s", err, c.want)
		}
	}
}

// A queue is unserved when some of its tasks can be run by no live node: none of those that work the queue has the
// action. It does not matter whether the tasks are queued or delayed, nor whether the queue is paused.
func TestAQueueIsUnservedWhenNoLiveNodeCanRunSomeOfItsTasks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) {
			c.Actions, c.Queues = []string{"ok"}, map[string]durable.QueueRule{"mail": {}, "held": {}, "later": {}, "empty": {}}
		})
		for _, queue := range []string{"held", "paused"} {
			w.acceptMany(n, 1, "minute", task.Options{Queue: queue})
			if refusal := n.Pause(t.Context(), queue, true); refusal != nil {
				t.Fatal(refusal)
			}
		}
		w.acceptMany(n, 51, "minute", task.Options{Queue: "mail"})
		w.acceptMany(n, 1, "ok", task.Options{Queue: "whose"})
		w.acceptMany(n, 1, "ok", task.Options{Queue: "later", RunAt: time.Now().Add(time.Hour)})
		w.acceptMany(n, 1, "minute", task.Options{Queue: "delayed", RunAt: time.Now().Add(time.Hour)})
		w.acceptMany(n, 1, "ok", task.Options{Queue: "empty"})
		w.after(time.Second)
		want := map[string]bool{"held": true, "paused": true, "mail": true, "whose": true, "later": false, "delayed": true, "empty": false}
		unserved := func() map[string]bool {
			list, refusal := n.Queues(t.Context())
			if refusal != nil {
				t.Fatal(refusal)
			}
			got := map[string]bool{}
			for _, q := range list {
				got[q.Name] = q.Unserved
			}
			return got
		}
		if got := unserved(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.node("b", func(c *durable.Config) { c.Actions = []string{"minute"} }) // of every queue
		w.after(durable.Beat)
		if got := unserved(); got["mail"] || got["held"] || got["paused"] || got["delayed"] || !got["whose"] {
			t.Errorf("with a node for them: got %v", got)
		}
	})
}

func TestQueuesTellRatesAndWhetherAnybodyWorksThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Queues = map[string]durable.QueueRule{"mine": {}} })
		for range 30 {
			w.acceptMany(n, 20, "ok", task.Options{Queue: "mine"})
			w.acceptMany(n, 10, "ok", task.Options{Queue: "whose"})
			w.after(time.Second)
		}
		list, refusal := n.Queues(t.Context())
		if refusal != nil || len(list) != 2 {
			t.Fatal(list, refusal)
		}
		mine, whose := list[0], list[1]
		if mine.Unserved || mine.RateIn < 19 || mine.RateIn > 21 || mine.RateOut < 19 || mine.RateOut > 21 {
			t.Errorf("%+v", mine)
		}
		if !whose.Unserved || whose.RateIn < 9 || whose.RateIn > 11 || whose.RateOut != 0 || whose.Queued != 300 {
			t.Errorf("%+v", whose)
		}
	})
}
