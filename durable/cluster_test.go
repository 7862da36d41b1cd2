package durable_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// process starts a node in a process of its own: it shares the store with others, and receives
// their events only through a broker.
func (w *world) process(name string, b broker.Broker, change ...func(*durable.Config)) *node {
	return w.node(name, append([]func(*durable.Config){func(c *durable.Config) {
		c.Hub, c.Broker, c.RunsSuspects = durable.NewHub(), b, true
	}}, change...)...)
}

// cluster starts three processes that share a broker, and lets them get to know each other.
func (w *world) cluster(change ...func(*durable.Config)) (*broker.Memory, []*node) {
	b := broker.NewMemory(broker.Bounds{})
	w.t.Cleanup(func() { b.Close() })
	var nodes []*node
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, w.process(name, b, change...))
	}
	w.acquaint()
	return b, nodes
}

// acquaint waits until nodes know each other, and for a moment between their looks at the store.
func (w *world) acquaint() { w.after(2*durable.Beat + durable.Beat/10) }

// ranOn returns how many of these tasks each node has run, when all are done.
func (w *world) ranOn(waiter *node, ids []string) map[string]int {
	w.t.Helper()
	on := map[string]int{}
	for _, id := range ids {
		done := w.finished(waiter, id)
		w.wantState(done, task.Done, 1)
		on[done.Node]++
	}
	return on
}

func TestWorkSpreadsOverProcesses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		start := time.Now()
		ids := w.acceptMany(nodes[0], 12, "second", task.Options{})
		on := w.ranOn(nodes[1], ids)
		if on["a"] != 4 || on["b"] != 4 || on["c"] != 4 {
			t.Errorf("twelve tasks on three nodes of four slots: %v", on)
		}
		if took := time.Since(start); took < time.Second || took > 1100*time.Millisecond { // claims keep a pace
			t.Errorf("they took %s", took)
		}
		if s := nodes[0].Stats().Mailbox; s.Published != 8 || s.Dropped != 0 {
			t.Errorf("a published what it ran itself, or too little: %+v", s)
		}
	})
}

func TestABacklogIsWorkedByIDs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		start := time.Now()
		on := w.ranOn(nodes[2], w.acceptMany(nodes[0], 600, "second", task.Options{}))
		if took := time.Since(start); took < 50*time.Second || took > 51*time.Second { // claims keep a pace
			t.Errorf("600 seconds of work in twelve slots took %s: %v", took, on)
		}
		var byIDs, byPoll int64
		for _, n := range nodes {
			s := n.Stats()
			byIDs, byPoll = byIDs+s.ClaimsByIDs, byPoll+s.ClaimsByPoll
		}
		if byIDs < 2*byPoll {
			t.Errorf("%d claims by ids, %d by polling", byIDs, byPoll)
		}
	})
}

func TestAWaiterOnAnotherNodeIsNotifiedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		busy := w.acceptMany(nodes[0], 4, "minute", task.Options{})
		start := time.Now()
		id := w.accept(nodes[0], "second").ID
		done := w.finished(nodes[0], id)
		w.wantState(done, task.Done, 1)
		if took := time.Since(start); done.Node == "a" || took != time.Second || len(done.Result.Inline) == 0 {
			t.Errorf("after %s: %+v", took, done)
		}
		w.ranOn(nodes[1], busy)
	})
}

func TestAWatchOnAnotherNodeSeesEntriesAndProgressAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		w.acceptMany(nodes[0], 4, "minute", task.Options{})
		id := w.accept(nodes[0], "tell").ID
		start := time.Now()
		var got []string
		percents := 0
		for event, refusal := range nodes[0].Watch(t.Context(), id, 0) {
			if refusal != nil {
				t.Fatal(refusal)
			}
			if event.Progress != nil {
				percents++
				continue
			}
			got = append(got, string(event.Entry.State))
		}
		if text := strings.Join(got, " "); text != "queued running done" || percents < 5 {
			t.Errorf("seen were %s, and %d times progress", text, percents)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestACancelReachesTheNodeThatRunsTheTask(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		w.acceptMany(nodes[0], 4, "hour", task.Options{})
		id := w.accept(nodes[0], "hour").ID
		w.after(time.Millisecond)
		start := time.Now()
		if _, refusal := nodes[2].Cancel(t.Context(), []string{id}); refusal != nil {
			t.Fatal(refusal)
		}
		w.wantState(w.finished(nodes[1], id), task.Cancelled, 1)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAForgedCancellationStopsNothing(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		b, nodes := w.cluster()
		id := w.accept(nodes[0], "second").ID
		w.after(time.Millisecond)
		b.Broadcast([]broker.Event{
			{Kind: broker.Cancelling, Task: id, Attempt: 1},
			{Kind: broker.Changed, Task: id, Attempt: 1, Entry: task.Entry{Seq: 3, State: task.Failed}},
			{Kind: "invented", Task: id},
			{Kind: broker.Changed},
		})
		w.wantState(w.finished(nodes[1], id), task.Done, 1)
	})
}

func TestAPausedQueueKeepsItsTasksInEveryProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		w.finished(nodes[0], w.accept(nodes[0], "ok", task.Options{Queue: "mail"}).ID)
		if refusal := nodes[0].Pause(t.Context(), "mail", true); refusal != nil {
			t.Fatal(refusal)
		}
		w.after(time.Millisecond)
		id := w.accept(nodes[1], "ok", task.Options{Queue: "mail"}).ID
		other := w.accept(nodes[1], "ok").ID
		w.wantState(w.finished(nodes[2], other), task.Done, 1)
		w.after(time.Minute)
		w.wantState(w.get(id), task.Queued, 0)
		start := time.Now()
		if refusal := nodes[2].Pause(t.Context(), "mail", false); refusal != nil {
			t.Fatal(refusal)
		}
		w.wantState(w.finished(nodes[0], id), task.Done, 1)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
	})
}

func TestEachNodeClaimsOnlyWhatItCanRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		door := w.process("door", b, func(c *durable.Config) { c.Actions = []string{} })
		w.process("mail", b, func(c *durable.Config) { c.Queues = map[string]durable.QueueRule{"mail": {Running: 2}} })
		w.process("rest", b, func(c *durable.Config) { c.Actions = []string{"ok", "third"} })
		w.acquaint()
		want := map[string]string{}
		for range 5 {
			want[w.accept(door, "second", task.Options{Queue: "mail"}).ID] = "mail"
			want[w.accept(door, "ok").ID] = "rest"
		}
		start := time.Now()
		for id, name := range want {
			if done := w.finished(door, id); done.Node != name {
				t.Errorf("it ran on %s, not on %s", done.Node, name)
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("five tasks, two at a time, took %s", took)
		}
	})
}

func TestIDsThatNobodyCanRunAreNotPublished(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		door := w.process("door", b, func(c *durable.Config) { c.Actions = []string{} })
		w.process("other", b, func(c *durable.Config) { c.Actions = []string{"ok"} })
		w.acquaint()
		a := door.Accept(t.Context(), []durable.Request{{Action: "ok"}, {Action: "third"}})
		if a[0].Warning != "" || !strings.Contains(a[1].Warning, "no live node has the action third") {
			t.Errorf("the warnings are %q and %q", a[0].Warning, a[1].Warning)
		}
		w.finished(door, a[0].Task.ID)
		if s := door.Stats().Mailbox; s.Published != 1 {
			t.Errorf("%+v", s)
		}
		w.process("late", b)
		w.wantState(w.finished(door, a[1].Task.ID), task.Done, 3)
	})
}

func TestABusyNodeTakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b, nodes := w.cluster()
		w.acceptMany(nodes[0], 12, "hour", task.Options{Timeout: 2 * time.Hour})
		w.after(time.Millisecond)
		taken := b.Stats().Taken
		ids := w.acceptMany(nodes[1], 10, "ok", task.Options{})
		w.after(time.Minute)
		if s := b.Stats(); s.Taken != taken || s.Held != 10 {
			t.Errorf("with all slots busy: %+v", s)
		}
		w.ranOn(w.process("d", b), ids)
	})
}

func TestWhatADrainingNodeGivesBackRunsElsewhereAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		id := w.accept(nodes[0], "minute", task.Options{MaxAttempts: 1}).ID
		w.after(time.Second)
		start := time.Now()
		nodes[0].end()
		done := w.finished(nodes[1], id)
		w.wantState(done, task.Done, 2)
		if wait := done.StartedAt.Sub(start); wait > time.Second {
			t.Errorf("it began after %s", wait)
		}
	})
}

func TestTheWaiterOfATaskWhoseProcessDiedIsNotified(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		shared := w.store
		cut := &frail{Store: shared}
		w.store = cut
		w.process("a", b)
		w.store = shared
		door := w.process("door", b, func(c *durable.Config) { c.Actions = []string{} })
		w.acquaint()
		id := w.accept(door, "minute").ID
		w.after(time.Second)
		w.wantState(w.get(id), task.Running, 1)
		cut.away.Store(true)
		w.process("b", b)
		start := time.Now()
		done := w.finished(door, id)
		w.wantState(done, task.Done, 2)
		if again := done.StartedAt.Sub(start); again > task.LeaseTime+3*time.Second {
			t.Errorf("it ran again after %s", again)
		}
		if late := time.Since(done.FinishedAt); late != 0 {
			t.Errorf("it was heard of after %s", late)
		}
	})
}

func TestScheduledTasksStartInTimeWithSeveralProcesses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, nodes := w.cluster()
		due := time.Now().Add(10 * time.Second)
		var ids []string
		for _, n := range nodes {
			ids = append(ids, w.accept(n, "ok", task.Options{RunAt: due}).ID)
		}
		w.after(time.Second)
		lost := w.accept(nodes[0], "ok", task.Options{RunAt: due.Add(5 * time.Second)}).ID
		for _, id := range ids {
			if late := w.finished(nodes[1], id).StartedAt.Sub(due); late > 100*time.Millisecond {
				t.Errorf("it began %s late", late)
			}
		}
		nodes[0].end()
		if late := w.finished(nodes[1], lost).StartedAt.Sub(due.Add(5 * time.Second)); late > 2*time.Second {
			t.Errorf("that of a node that is gone began %s late", late)
		}
	})
}
