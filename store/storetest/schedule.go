package storetest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"pgregory.net/rapid"
)

// Model runs random schedules of what three nodes and their clients do, and compares the store with a model
// after each step. Run includes it. It can also be called in a synctest bubble, with a clock that waits. The
// flags of rapid set how long it runs; the number of steps is logged.
func Model(t *testing.T, open Open) {
	steps := 0
	// rapid would ask a *testing.T for its deadline, which does not exist in a bubble.
	rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
		s, clock := open(t, store.Limits{})
		defer func() { _ = s.Close() }()
		w := &world{T: rt, ctx: t.Context(), store: s, clock: clock, model: &model{tasks: map[string]*task.Task{}, nodes: map[string]row{}},
			seen: map[string]task.Task{}}
		rt.Repeat(map[string]func(*rapid.T){
			"accept":   w.does((*world).accept),
			"claim":    w.does((*world).claim),
			"claim 2":  w.does((*world).claim), // twice, or too few tasks would run
			"enter":    w.does((*world).enter),
			"renew":    w.does((*world).renew),
			"adopt":    w.does((*world).adopt),
			"reap":     w.does((*world).reap),
			"record":   w.does((*world).record),
			"cancel":   w.does((*world).cancel),
			"retry":    w.does((*world).retry),
			"maintain": w.does((*world).maintain),
			"crash":    w.does((*world).crash),
			"poison":   w.does((*world).poison),
			"wait":     w.does((*world).wait),
			"beat":     w.does((*world).beat),
			"live":     w.does((*world).live),
			"":         func(rt *rapid.T) { w.T = rt; w.check() },
		})
		steps += w.steps
	})
	t.Logf("%d steps", steps)
}

// FewSteps has Model do a quarter of what it does otherwise, unless a flag of rapid says how much: for stores whose
// calls take long. make model does much more. TestMain calls it.
func FewSteps() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "rapid.checks" })
	if !said {
		_ = flag.Set("rapid.checks", "25")
	}
}

// world is a store, and the model of what it should contain.
type world struct {
	*rapid.T
	ctx   context.Context
	store store.Store
	clock Clock
	model *model
	made  int
	steps int
	seen  map[string]task.Task // the tasks at the last check
}

// does makes a method of the world an action of rapid.
func (w *world) does(step func(*world)) func(*rapid.T) {
	return func(rt *rapid.T) {
		w.T = rt
		w.steps++
		step(w)
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, label) }

// task draws the id of a task that was accepted before.
func (w *world) task() string { return ulid(1 + w.pick("task", max(w.made, 1))) }

func (w *world) node() string { return fmt.Sprint("n", w.pick("node", 3)) }

// worker draws the worker of an attempt, or none.
func (w *world) worker() string { return []string{"", "w1", "w2"}[w.pick("worker", 3)] }

// fence draws a fence of a task: usually the newest, sometimes an older or an unused one.
func (w *world) fence(id string) int {
	newest := w.seen[id].Fence
	return []int{newest, newest, newest, newest - 1, newest + 1}[w.pick("fence", 5)]
}

// draft draws a new task, or sometimes one with an old id.
func (w *world) draft() task.Task {
	w.made++
	t := task.Task{ID: ulid(w.made), Action: "upper"}
	if w.pick("repeated", 8) == 0 {
		t.ID = w.task()
	}
	t.Options = task.Options{
		Queue: fmt.Sprint("q", w.pick("queue", 2)), Priority: task.Priority(w.pick("priority", 3)), MaxAttempts: 1 + w.pick("max_attempts", 3),
		Keep: time.Duration(10+30*w.pick("keep", 2)) * time.Second, KeepFailed: time.Duration(10+30*w.pick("keep_failed", 2)) * time.Second,
		Key: []string{"", "", "k1", "k2"}[w.pick("key", 4)],
	}
	if w.pick("delayed", 3) == 0 {
		t.Delay = 6 * time.Second
	}
	if w.pick("started", 3) == 0 {
		t.Node = w.node()
	}
	if w.pick("expires", 4) == 0 {
		t.ExpiresIn = 9 * time.Second
	}
	return t
}

func (w *world) accept() {
	now := w.clock.Now()
	batch := []task.Task{w.draft()}
	for range w.pick("others", 3) {
		batch = append(batch, w.draft())
	}
	got, err := w.store.Accept(w.ctx, batch)
	w.ok(err)
	for i, t := range batch {
		holder := w.model.holder(t)
		if got[i].Duplicate != (holder != nil) || got[i].Refusal != nil {
			w.Fatalf("the key or id belongs to %+v, but the answer is %+v", holder, got[i])
		}
		if holder != nil && got[i].Task.ID != holder.ID {
			w.Fatalf("the key belongs to %s, but the answer is %s", holder.ID, got[i].Task.ID)
		}
		w.model.accept(t, now)
		if holder == nil && got[i].Task.State != w.model.tasks[t.ID].State {
			w.Fatalf("a new task is %s, not %s", got[i].Task.State, w.model.tasks[t.ID].State)
		}
	}
}

func (w *world) claim() {
	by := store.Claim{Node: w.node(), Actions: []string{"upper"}, Limit: 1 + w.pick("limit", 3), Isolated: w.pick("isolated", 3) == 0, Quarantined: w.pick("quarantined", 2) == 0}
	if w.pick("beside", 2) == 0 {
		by.Beside = []string{w.task(), w.task()}
	}
	if w.pick("by id", 2) == 0 {
		by.IDs = []string{w.task(), w.task(), w.task()}
	}
	w.claimAs(by)
}

func (w *world) claimAs(by store.Claim) {
	may := w.model.claimable(by, w.clock.Now())
	got, err := w.store.Claim(w.ctx, by)
	w.ok(err)
	want := min(len(may), by.Limit)
	if by.Isolated {
		want = min(want, 1)
	}
	if len(got) != want {
		w.Fatalf("claimed %v, want %d of %v", ids(got), want, may)
	}
	for _, t := range got {
		if !slices.Contains(may, t.ID) {
			w.Fatalf("claimed %s, which is not claimable: %+v", t.ID, w.model.tasks[t.ID])
		}
		may = slices.DeleteFunc(may, func(id string) bool { return id == t.ID })
		w.model.claim(t.ID, by.Node)
	}
}

func (w *world) enter() {
	id := w.task()
	entered := store.Entered{ID: id, Fence: w.fence(id), Worker: w.worker(), At: time.Now().Add(-time.Duration(w.pick("ago", 3)) * time.Second)}
	got, err := w.store.Enter(w.ctx, []store.Entered{entered})
	w.ok(err)
	t := w.model.tasks[id]
	may := w.model.has(id, entered.Fence) && t.Reserved != ""
	if got[0].Stale == may {
		w.Fatalf("entering %+v returned stale:%t; the task is %+v", entered, got[0].Stale, t)
	}
	if may {
		w.model.enter(t, entered.Worker)
	}
}

// renew renews a claim: usually by the node that has it, sometimes by one that may have had it before.
func (w *world) renew() {
	id := w.task()
	held := store.Held{ID: id, Fence: w.fence(id)}
	seen := w.seen[id]
	node := holds(&seen)
	if w.pick("other node", 3) == 0 {
		node = w.node()
	}
	got, err := w.store.Renew(w.ctx, node, []store.Held{held})
	w.ok(err)
	lost := !w.model.has(held.ID, held.Fence) || holds(w.model.tasks[id]) != node
	if got[0].Lost != lost || got[0].Cancelling != (!lost && w.model.tasks[id].Cancelling) {
		w.Fatalf("renewing %+v by %s returned %+v; the task is %+v", held, node, got[0], w.model.tasks[id])
	}
}

// adopt lets a node adopt a claim.
func (w *world) adopt() {
	id, node := w.task(), w.node()
	claim := store.Held{ID: id, Fence: w.fence(id)}
	got, err := w.store.Adopt(w.ctx, node, []store.Held{claim})
	w.ok(err)
	lost := !w.model.has(id, claim.Fence)
	if got[0].Lost != lost || got[0].Cancelling != (!lost && w.model.tasks[id].Cancelling) {
		w.Fatalf("adopting %+v returned %+v; the task is %+v", claim, got[0], w.model.tasks[id])
	}
	if !lost {
		w.model.adopt(id, node)
	}
}

// reap lets a worker of a node die that had one or two tasks.
func (w *world) reap() {
	node := w.node()
	var claims []store.Held
	for range 1 + w.pick("claims", 2) {
		id := w.task()
		seen := w.seen[id]
		if w.pick("other node", 4) > 0 && holds(&seen) != "" {
			node = holds(&seen)
		}
		claims = append(claims, store.Held{ID: id, Fence: w.fence(id)})
	}
	_, err := w.store.Reap(w.ctx, node, claims, workerDied)
	w.ok(err)
	for _, c := range claims {
		if w.model.has(c.ID, c.Fence) && holds(w.model.tasks[c.ID]) == node {
			w.model.end(w.model.tasks[c.ID], false)
		}
	}
}

func (w *world) record() {
	id := w.task()
	changes := []task.Change{task.Succeed, task.Fail, task.Again, task.Again, task.Release}
	o := store.Outcome{ID: id, Fence: w.fence(id), Worker: w.worker(), EnteredAt: time.Now().Add(-time.Duration(w.pick("ago", 3)) * time.Second)}
	if o.Unentered = w.pick("unentered", 3) == 0; o.Unentered {
		changes = []task.Change{task.Release, task.Release, task.Cancel, task.Expire}
	}
	if o.Change = changes[w.pick("change", len(changes))]; o.Change != task.Release || w.pick("later", 2) == 0 {
		o.Delay = 3 * time.Second
	}
	o.Uncounted = w.pick("uncounted", 2) == 0
	got, err := w.store.Record(w.ctx, []store.Outcome{o})
	w.ok(err)
	runs := w.model.has(o.ID, o.Fence)
	if got[0].Stale == runs {
		w.Fatalf("recording %+v returned stale:%t; the task is %+v", o, got[0].Stale, w.model.tasks[id])
	}
	if runs {
		w.model.record(o, w.clock.Now())
	}
}

func (w *world) cancel() {
	id := w.task()
	_, err := w.store.Cancel(w.ctx, []string{id})
	w.ok(err)
	w.model.cancel(id)
}

func (w *world) retry() {
	id := w.task()
	_, err := w.store.Retry(w.ctx, []string{id})
	w.ok(err)
	w.model.retry(id)
}

func (w *world) maintain() {
	now := w.clock.Now()
	_, err := w.store.Maintain(w.ctx, 1000)
	w.ok(err)
	w.model.maintain(now)
}

func (w *world) crash() { w.crashOf(w.node()) }

// poison lets a node claim a suspect and die with it. Without this step, a task would hardly ever reach its
// last crash.
func (w *world) poison() {
	node := w.node()
	w.claimAs(store.Claim{Node: node, Actions: []string{"upper"}, Limit: 1, Isolated: true, Quarantined: true})
	w.crashOf(node)
}

func (w *world) crashOf(node string) {
	_, err := w.store.Recover(w.ctx, node, nil)
	w.ok(err)
	w.model.recover(node)
}

func (w *world) wait() {
	w.clock.Advance(time.Duration(1+w.pick("seconds", 8)) * time.Second)
}

// beat sends a heartbeat of a node: of the same process, or of a new one.
func (w *world) beat() {
	n := store.Node{Name: w.node()}
	if n.Started = w.model.nodes[n.Name].started; w.pick("started again", 4) == 0 {
		n.Started = n.Started.Add(time.Hour)
	}
	w.beatAs(n)
}

func (w *world) beatAs(n store.Node) {
	w.ok(w.store.Beat(w.ctx, n))
	list, err := w.store.Nodes(w.ctx)
	w.ok(err)
	i := slices.IndexFunc(list, func(other store.Node) bool { return other.Name == n.Name })
	if i < 0 || !list[i].Started.Equal(n.Started) {
		w.Fatalf("after a heartbeat of %+v the nodes are %+v", n, list)
	}
	w.model.beat(list[i])
}

// live lets a node claim tasks without learning of it, and sometimes stay alive until the lease has ended.
// Without this step, that would hardly ever happen. In a bubble, rapid has one day of virtual time for all
// schedules.
func (w *world) live() {
	n := store.Node{Name: w.node()}
	n.Started = w.model.nodes[n.Name].started
	w.beatAs(n)
	w.claimAs(store.Claim{Node: n.Name, Actions: []string{"upper"}, Limit: 2, Isolated: w.pick("isolated", 2) == 0, Quarantined: true})
	if w.pick("until the lease ends", 4) > 0 {
		return
	}
	w.check() // copies the leases to the model
	w.clock.Advance(8 * time.Second)
	if w.pick("started again", 4) == 0 {
		n.Started = n.Started.Add(time.Hour)
	}
	w.beatAs(n)
	w.clock.Advance(8 * time.Second)
	w.maintain()
}

// check compares all tasks and the counts.
func (w *world) check() {
	var all []string
	for n := range w.made {
		all = append(all, ulid(n+1))
	}
	found, err := w.store.Get(w.ctx, all)
	w.ok(err)
	counts := map[string]int64{}
	for i, got := range found {
		want := w.model.tasks[all[i]]
		if (want == nil) != (got.ID == "") {
			w.Fatalf("task %s is %+v, want %+v", all[i], got, want)
		}
		if want == nil {
			delete(w.seen, all[i])
			continue
		}
		w.compare(got, *want)
		w.promises(w.seen[got.ID], got)
		want.Lease, want.RunAt, want.FinishedAt = got.Lease, got.RunAt, got.FinishedAt
		w.seen[got.ID] = got
		counts[got.Queue+" "+string(got.State)]++
	}
	queues, err := w.store.Queues(w.ctx)
	w.ok(err)
	for _, q := range queues {
		for s, n := range map[task.State]int64{
			task.Scheduled: q.Scheduled, task.Queued: q.Queued, task.Running: q.Running, task.Failed: q.Failed,
		} {
			if want := counts[q.Name+" "+string(s)]; n != want {
				w.Fatalf("queue %s counts %d %s tasks, but has %d", q.Name, n, s, want)
			}
		}
	}
}

// compare compares a task with the model.
func (w *world) compare(got, want task.Task) {
	sum := func(t task.Task) string {
		return fmt.Sprintf("%s attempt %d fence %d generation %d failures %d crashes %d suspect %t cancelling %t node %q worker %q reserved %q",
			t.State, t.Attempt, t.Fence, t.Generation, t.Failures, t.Crashes, t.Suspect, t.Cancelling, t.Node, t.Worker, t.Reserved)
	}
	if sum(got) != sum(want) {
		w.Fatalf("task %s is %s\nwant %s\nits history: %s", got.ID, sum(got), sum(want), timeline(got))
	}
}

// promises checks what must always be true.
func (w *world) promises(before, now task.Task) {
	if problem := flaw(now); problem != "" {
		w.Fatalf("task %s: %s", now.ID, problem)
	}
	if now.Attempt < before.Attempt-1 || now.Attempt < before.Attempt && now.State == task.Running || now.Fence < before.Fence || now.Generation < before.Generation {
		w.Fatalf("task %s went back from %+v to %+v", now.ID, before, now)
	}
	if before.State.Final() && now.Generation == before.Generation && now.State != before.State {
		w.Fatalf("task %s went from %s to %s without a retry", now.ID, before.State, now.State)
	}
	ends := map[int]int{}
	for _, e := range now.History {
		if e.State.Final() {
			ends[e.Generation]++
		}
		if ends[e.Generation] > 1 {
			w.Fatalf("task %s ended twice in generation %d: %s", now.ID, e.Generation, timeline(now))
		}
	}
}
