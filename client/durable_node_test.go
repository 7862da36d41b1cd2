package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// durableNode returns the configuration of a node with a store and an action that reports
// progress until release or the end of its context.
func durableNode(s store.Store, release <-chan struct{}) node.Config {
	held := actions.New("held", func(ctx context.Context, call *actions.Call) (any, error) {
		for tick := time.Tick(20 * time.Millisecond); ; call.Report(50, "half") {
			select {
			case <-tick:
			case <-release:
				return "released", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	return node.Config{Name: "n1", Durable: &durable.Config{Store: s}, Actions: append(actions.Builtin(), held)}
}

// toDurableNode starts such a node and returns a client of it.
func toDurableNode(t *testing.T) (c *client.Client, release chan struct{}) {
	t.Helper()
	release = make(chan struct{})
	n, _ := startNode(t, "127.0.0.1:0", durableNode(store.NewMemory(store.MemoryConfig{}), release))
	return toNode(t, n, client.Config{}), release
}

func TestARealNodeRunsEnqueuedTasks(t *testing.T) {
	t.Parallel()
	c, _ := toDurableNode(t)
	ctx := t.Context()
	a, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{Key: "k", Priority: "high", Meta: map[string]string{"user": "7"}})
	if err != nil || a.State != task.Queued || len(a.Task) != 26 || a.Duplicate || a.Warning != "" {
		t.Fatalf("enqueue: got %+v, %v", a, err)
	}
	r, err := c.Wait(ctx, a.Task)
	if err != nil || r.State != task.Done || r.Result.String() != `{"ok":true,"data":"HOLA"}` || r.Attempt != 1 || r.Queue != "default" ||
		r.Action != "upper" || r.Priority != "high" || r.Key != "k" || r.Meta["user"] != "7" || r.Node != "n1" ||
		r.CreatedAt.IsZero() || r.StartedAt.IsZero() || r.FinishedAt.IsZero() || r.Payload != nil {
		t.Errorf("wait: got %+v, %v", r, err)
	}
	if r, err = c.GetWithPayload(ctx, a.Task); err != nil || string(r.Payload) != `"hola"` || r.State != task.Done {
		t.Errorf("get: got %+v, %v", r, err)
	}
	again, err := c.Enqueue(ctx, "upper", "hola", client.EnqueueOptions{Key: "k"})
	if want := (client.Accepted{Task: a.Task, State: task.Done, Duplicate: true}); err != nil || again != want {
		t.Errorf("duplicate: got %+v, %v", again, err)
	}
	_, err = c.Enqueue(ctx, "upper", "adios", client.EnqueueOptions{Key: "k"})
	var refusal *task.Error
	if !errors.As(err, &refusal) || refusal.Code != task.KeyConflict || refusal.Task != a.Task {
		t.Errorf("another payload: got %v", err)
	}
	if _, err := c.Get(ctx, "nothing"); task.CodeOf(err) != task.NotFound {
		t.Errorf("an unknown task: got %v", err)
	}
	a, err = c.Enqueue(ctx, "nope", nil, client.EnqueueOptions{Delay: time.Hour})
	if err != nil || a.State != task.Scheduled || time.Until(a.RunAt) < 50*time.Minute || a.Warning == "" {
		t.Errorf("an action that no node has: got %+v, %v", a, err)
	}
}

func TestATaskOfARealNodeCanBeWatched(t *testing.T) {
	t.Parallel()
	c, release := toDurableNode(t)
	var once sync.Once
	var states []string
	a, err := c.Enqueue(t.Context(), "held", nil, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range c.Watch(t.Context(), a.Task, 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Progress != nil:
			if *e.Progress != (client.Progress{Percent: 50, Message: "half"}) {
				t.Errorf("progress: got %+v", e.Progress)
			}
			once.Do(func() { close(release) })
		case e.State.Final():
			if e.Result.String() != `{"ok":true,"data":"released"}` {
				t.Errorf("the last event: got %+v", e)
			}
			fallthrough
		default:
			states = append(states, fmt.Sprintf("%d %s", e.Seq, e.State))
		}
	}
	if want := []string{"1 queued", "2 running", "3 done"}; !slices.Equal(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
}

func TestARealNodeCancelsRetriesListsAndPauses(t *testing.T) {
	t.Parallel()
	c, release := toDurableNode(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range []func(context.Context, string) error{c.Pause, c.Resume} {
		if err := change(ctx, "mail"); task.CodeOf(err) != task.NotFound {
			t.Errorf("an unknown queue: got %v", err)
		}
	}
	first, err := c.Enqueue(ctx, "echo", nil, client.EnqueueOptions{Queue: "mail"})
	must(err)
	_, err = c.Wait(ctx, first.Task)
	must(err)
	must(c.Pause(ctx, "mail"))
	must(c.Pause(ctx, "mail"))
	for i := range 5 {
		_, err := c.Enqueue(ctx, "echo", i, client.EnqueueOptions{Queue: "mail", Meta: map[string]string{"odd": fmt.Sprint(i % 2)}})
		must(err)
	}
	queues, err := c.Queues(ctx)
	must(err)
	if len(queues) != 1 || queues[0].Queue != "mail" || !queues[0].Paused || queues[0].Queued != 5 {
		t.Errorf("queues: got %+v", queues)
	}
	listed := 0
	for q := (client.Query{Filter: client.Filter{Queue: "mail", State: task.Queued}, Limit: 2}); ; {
		page, err := c.List(ctx, q)
		must(err)
		listed += len(page.Tasks)
		if q.Cursor = page.Cursor; q.Cursor == "" {
			break
		}
	}
	if listed != 5 {
		t.Errorf("%d tasks were listed", listed)
	}
	now, err := c.List(ctx, client.Query{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)})
	must(err)
	past, err := c.List(ctx, client.Query{Until: time.Now().Add(-time.Hour)})
	must(err)
	if len(now.Tasks) != 6 || len(past.Tasks) != 0 {
		t.Errorf("%d tasks are from this hour and %d are older", len(now.Tasks), len(past.Tasks))
	}
	bulk, err := c.CancelWhere(ctx, client.Filter{Meta: map[string]string{"odd": "1"}}, 1)
	must(err)
	if want := (client.Bulk{Matched: 1, Changed: 1, More: true}); bulk != want {
		t.Errorf("cancel by filter: got %+v", bulk)
	}
	bulk, err = c.RetryWhere(ctx, client.Filter{State: task.Cancelled}, 0)
	must(err)
	if want := (client.Bulk{Matched: 1, Changed: 1}); bulk != want {
		t.Errorf("retry by filter: got %+v", bulk)
	}
	if _, err := c.RetryWhere(ctx, client.Filter{}, 0); task.CodeOf(err) != task.InvalidRequest {
		t.Errorf("an empty filter: got %v", err)
	}
	must(c.Resume(ctx, "mail"))

	a, err := c.Enqueue(ctx, "held", nil, client.EnqueueOptions{})
	must(err)
	for e, err := range c.Watch(ctx, a.Task, 0) {
		must(err)
		if e.State == task.Running {
			break
		}
	}
	cancelling, err := c.Cancel(ctx, a.Task)
	must(err)
	if r, err := c.Wait(ctx, a.Task); err != nil || r.State != task.Cancelled || !cancelling {
		t.Errorf("cancel: got %+v, %v, cancelling is %t", r, err, cancelling)
	}
	if cancelling, err := c.Cancel(ctx, a.Task); err != nil || cancelling {
		t.Errorf("cancel again: got %t, %v", cancelling, err)
	}
	close(release)
	if generation, err := c.Retry(ctx, a.Task); err != nil || generation != 1 {
		t.Errorf("retry: got %d, %v", generation, err)
	}
	r, err := c.Wait(ctx, a.Task)
	if err != nil || r.State != task.Done || r.Attempt != 2 || r.Generation != 1 {
		t.Errorf("retried: got %+v, %v", r, err)
	}
	var refusal *task.Error
	if _, err := c.Cancel(ctx, a.Task); !errors.As(err, &refusal) || refusal.Code != task.Conflict || refusal.State != "done" {
		t.Errorf("cancel of a task that is done: got %v", err)
	}
	last := client.Event{}
	for e, err := range c.Watch(ctx, a.Task, 0) { // its history has an end before the retry
		must(err)
		last = e
	}
	if last.State != task.Done || last.Attempt != 2 || last.Seq != 6 {
		t.Errorf("the last of a watch: got %+v", last)
	}
}

func TestStreamEnqueueWorksWithARealNode(t *testing.T) {
	t.Parallel()
	const count = 5_000
	c, _ := toDurableNode(t)
	last, accepted := "", 0
	for i, a := range client.StreamEnqueue(t.Context(), c, enqueues(count)) {
		if a.Err != nil {
			t.Fatalf("task %d: %v", i, a.Err)
		}
		accepted++
		last = a.Accepted.Task
	}
	if r, err := c.Wait(t.Context(), last); accepted != count || err != nil || r.State != task.Done {
		t.Errorf("%d of %d were accepted; the last is %+v, %v", accepted, count, r, err)
	}
}

// TestWaitsAndWatchesContinueAfterARestart opens a wait, a watch and an enqueue with wait
// before their node drains and the next one starts on the same address and store.
func TestWaitsAndWatchesContinueAfterARestart(t *testing.T) {
	t.Parallel()
	kept, release := store.NewMemory(store.MemoryConfig{}), make(chan struct{})
	config := func() node.Config {
		cfg := durableNode(kept, release)
		cfg.Limits.DrainTimeout = 300 * time.Millisecond
		return cfg
	}
	n, stop := startNode(t, "127.0.0.1:0", config())
	addr := n.Addr().String()
	c := toNode(t, n, client.Config{ConnectWait: time.Minute})
	started := make(chan string, 1)
	var open sync.WaitGroup
	open.Go(func() {
		final, err := c.EnqueueWait(t.Context(), "held", nil, client.EnqueueOptions{}, func(a client.Accepted) { started <- a.Task })
		if err != nil || final.State != task.Done || final.Result.String() != `{"ok":true,"data":"released"}` || final.Attempt != 2 {
			t.Errorf("enqueue: got %+v, %v", final, err)
		}
	})
	id := <-started
	open.Go(func() {
		if r, err := c.Wait(t.Context(), id); err != nil || r.State != task.Done {
			t.Errorf("wait: got %+v, %v", r, err)
		}
	})
	running := make(chan struct{})
	open.Go(func() {
		var seen []string
		for e, err := range c.Watch(t.Context(), id, 0) {
			if err != nil {
				t.Error(err)
				return
			}
			if e.Progress != nil {
				continue
			}
			if seen = append(seen, fmt.Sprintf("%d %s", e.Seq, e.State)); len(seen) == 2 {
				close(running)
			}
		}
		if got, want := strings.Join(seen, ","), "1 queued,2 running,3 queued,4 running,5 done"; got != want {
			t.Errorf("watched %s, want %s", got, want)
		}
	})
	<-running
	stop()
	startNode(t, addr, config())
	close(release)
	open.Wait()
}
