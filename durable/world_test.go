package durable_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store and the nodes that share it. Everything lives in the time of one
// synctest bubble, in which waiting costs nothing.
type world struct {
	t     *testing.T
	store store.Store
	hub   *durable.Hub
	slots int
	back  time.Time // when what the action away needs is there again

	mu  sync.Mutex // guards the one below
	ran []string   // task/attempt of each call of an action, in order
}

// node is an engine with its executor.
type node struct {
	*durable.Engine
	stop context.CancelFunc
	done chan struct{}
	up   bool
}

// inBubble runs a test in a world of its own.
func inBubble(t *testing.T, test func(*testing.T, *world)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		test(t, &world{t: t, store: store.NewMemory(store.MemoryConfig{}), hub: durable.NewHub(), slots: 4})
	})
}

// node starts a node; change may change its configuration.
func (w *world) node(name string, change ...func(*durable.Config)) *node {
	w.t.Helper()
	registry, err := actions.NewRegistry(w.actions()...)
	if err != nil {
		w.t.Fatal(err)
	}
	exec, err := executor.New(executor.Config{Registry: registry, Slots: w.slots, QuickSlots: 1, StuckSlots: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	config := durable.Config{Store: w.store, Executor: exec, Node: name, Hub: w.hub, Streams: registry.Streams, Jitter: func() float64 { return 1 }}
	for _, c := range change {
		c(&config)
	}
	e, err := durable.New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Engine: e, stop: cancel, done: make(chan struct{}), up: true}
	go func() {
		defer close(n.done)
		if err := e.Run(ctx); err != nil {
			w.t.Errorf("node %s: %v", name, err)
		}
	}()
	w.t.Cleanup(func() {
		n.end()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = exec.Close(ctx) // functions that ignore their context are part of the tests
	})
	return n
}

// end stops the node and waits for it.
func (n *node) end() {
	n.stop()
	<-n.done
}

// actions are what the nodes of a world have. The payload of most is null.
func (w *world) actions() []actions.Action {
	list := map[string]actions.Func{
		"ok": func(context.Context, *actions.Call) (any, error) { return "fine", nil },
		"second": func(ctx context.Context, _ *actions.Call) (any, error) {
			return "slept", rest(ctx, time.Second)
		},
		"minute": func(ctx context.Context, _ *actions.Call) (any, error) {
			return "slept", rest(ctx, 59*time.Second) // less than the default timeout
		},
		"hour": func(ctx context.Context, _ *actions.Call) (any, error) {
			return "slept", rest(ctx, time.Hour)
		},
		"fail": func(context.Context, *actions.Call) (any, error) { return nil, errors.New("it did not work") },
		"away": func(context.Context, *actions.Call) (any, error) {
			if time.Now().Before(w.back) {
				return nil, errors.New("503 Service Unavailable")
			}
			return "fine", nil
		},
		"panic": func(context.Context, *actions.Call) (any, error) { panic("out of cheese") },
		"never": func(context.Context, *actions.Call) (any, error) {
			return nil, actions.Permanent(errors.New("no such cheese"))
		},
		"busy": func(_ context.Context, call *actions.Call) (any, error) {
			if call.Attempt < 3 {
				return nil, actions.RetryAfter(errors.New("429 Too Many Requests"), 7*time.Minute)
			}
			return call.Attempt, nil
		},
		"large": func(context.Context, *actions.Call) (any, error) { return strings.Repeat("x", task.InlineBytes), nil },
		"stormy": func(ctx context.Context, _ *actions.Call) (any, error) {
			<-ctx.Done()
			return nil, errors.New("gave up")
		},
		"third": func(_ context.Context, call *actions.Call) (any, error) {
			if call.Attempt < 3 {
				return nil, errors.New("not yet")
			}
			return call.Attempt, nil
		},
		"deaf": func(context.Context, *actions.Call) (any, error) {
			return "at last", rest(context.Background(), 100*time.Second)
		},
		"length": func(_ context.Context, call *actions.Call) (any, error) { return len(call.Payload), nil },
		"stream": func(ctx context.Context, call *actions.Call) (any, error) {
			body, err := call.Open(ctx)
			if err != nil {
				return nil, err
			}
			defer body.Close()
			n, err := io.Copy(io.Discard, body)
			return fmt.Sprintf("%d read, %t held", n, int64(len(call.Payload)) == n), err
		},
		"tell": func(ctx context.Context, call *actions.Call) (any, error) {
			for i := range 100 {
				call.Report(float64(i), "on it")
				if err := rest(ctx, 10*time.Millisecond); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
	}
	var all []actions.Action
	for name, run := range list {
		all = append(all, actions.Action{Name: name, Slow: true, Streams: name == "stream", Run: func(ctx context.Context, call *actions.Call) (any, error) {
			w.note(call)
			return run(ctx, call)
		}})
	}
	return all
}

// rest waits for d or for the end of ctx.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *world) note(call *actions.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran = append(w.ran, call.Task)
}

// runs is how often an action was called for a task.
func (w *world) runs(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, other := range w.ran {
		if other == id {
			n++
		}
	}
	return n
}

// order returns the tasks in the order in which their actions were called.
func (w *world) order() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.ran...)
}

// accept has a node accept one task and gives it.
func (w *world) accept(n *node, action string, options ...task.Options) task.Task {
	w.t.Helper()
	request := durable.Request{Action: action}
	for _, o := range options {
		request.Options = o
	}
	a := n.Accept(w.t.Context(), []durable.Request{request})[0]
	if a.Refusal != nil {
		w.t.Fatalf("%s is refused: %v", action, a.Refusal)
	}
	return a.Task
}

// finished waits for a task, a day at most.
func (w *world) finished(n *node, id string) task.Task {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 24*time.Hour)
	defer cancel()
	t, refusal := n.Wait(ctx, id)
	if refusal != nil {
		w.t.Fatalf("waiting for %s: %v", id, refusal)
	}
	if !t.State.Final() {
		w.t.Fatalf("task %s is %s after a day: %+v", id, t.State, t)
	}
	return t
}

// get reads a task.
func (w *world) get(id string) task.Task {
	w.t.Helper()
	found, err := w.store.Get(context.Background(), []string{id})
	if err != nil {
		w.t.Fatal(err)
	}
	return found[0]
}

// after lets time go by, and waits until all is quiet.
func (w *world) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// wantState checks how a task stands.
func (w *world) wantState(t task.Task, state task.State, attempt int) {
	w.t.Helper()
	if t.State != state || t.Attempt != attempt {
		w.t.Errorf("task is %s after %d attempts (%s %q), want %s after %d", t.State, t.Attempt, t.Code, t.Error, state, attempt)
	}
}

// states returns the states of a task's history.
func states(t task.Task) string {
	var list []string
	for _, entry := range t.History {
		list = append(list, string(entry.State))
	}
	return strings.Join(list, " ")
}

// frail is a store that can be away, lose answers, or be cut off from one node.
type frail struct {
	store.Store
	away  atomic.Bool  // all calls are refused
	claim atomic.Int32 // so many answers of Claim that have tasks are lost after the commit
	lost  atomic.Int32 // so many answers of Accept and Record are lost after the commit
	renew atomic.Bool  // renewals are refused, and claims
}

func (f *frail) refuse() error {
	if f.away.Load() {
		return task.Refuse(task.Unavailable, "the store is away")
	}
	return nil
}

func (f *frail) lose() error {
	if f.lost.Add(-1) >= 0 {
		return task.Refuse(task.UnknownOutcome, "the answer was lost")
	}
	return nil
}

func (f *frail) Accept(ctx context.Context, list []task.Task) ([]store.Accepted, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	answers, err := f.Store.Accept(ctx, list)
	if lost := f.lose(); lost != nil {
		return nil, lost
	}
	return answers, err
}

func (f *frail) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	if f.renew.Load() {
		return nil, task.Refuse(task.Unavailable, "no claims")
	}
	tasks, err := f.Store.Claim(ctx, by)
	if len(tasks) > 0 && f.claim.Add(-1) >= 0 {
		return nil, task.Refuse(task.UnknownOutcome, "the answer was lost")
	}
	return tasks, err
}

func (f *frail) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	if f.renew.Load() {
		return nil, task.Refuse(task.Unavailable, "no renewals")
	}
	return f.Store.Renew(ctx, node, held)
}

func (f *frail) Record(ctx context.Context, list []store.Outcome) ([]store.Recorded, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	answers, err := f.Store.Record(ctx, list)
	if lost := f.lose(); lost != nil {
		return nil, lost
	}
	return answers, err
}

func (f *frail) Maintain(ctx context.Context, limit int) (store.Maintained, error) {
	if err := f.refuse(); err != nil {
		return store.Maintained{}, err
	}
	return f.Store.Maintain(ctx, limit)
}

func (f *frail) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, ids)
}

func (f *frail) Beat(ctx context.Context, n store.Node) error {
	if err := f.refuse(); err != nil {
		return err
	}
	return f.Store.Beat(ctx, n)
}
