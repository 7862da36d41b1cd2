package client_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// workFor runs a worker for a node until stop is called, at the latest at the end of the test.
func workFor(t testing.TB, w client.Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func TestAWorkerRunsTheTasksOfARealNode(t *testing.T) {
	t.Parallel()
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	c := toNode(t, n, client.Config{})
	type person struct{ Name string }
	var attempts atomic.Int32
	stop := workFor(t, client.Worker{Addr: n.Addr().String(), Slots: 4, Name: "w1", Actions: []actions.Action{
		posta.Action("greet", func(ctx context.Context, in person) (string, error) {
			posta.Progress(ctx, 50, "half")
			if of := posta.TaskFrom(ctx); of.Action != "greet" {
				return "", fmt.Errorf("the task is %+v", of)
			}
			return "hello " + in.Name, nil
		}),
		actions.New("later", func(context.Context, *actions.Call) (any, error) {
			if attempts.Add(1) == 1 {
				return nil, actions.RetryAfter(errors.New("not yet"), 0)
			}
			return "now", nil
		}),
		actions.New("never", func(context.Context, *actions.Call) (any, error) {
			return nil, actions.Permanent(errors.New("not an image"))
		}),
		actions.New("panics", func(context.Context, *actions.Call) (any, error) { panic("oh") }),
		{Name: "members", Append: func(_ context.Context, _ *actions.Call, dst []byte) ([]byte, error) {
			return append(dst, `"a":1,"b":[2]`...), nil
		}},
	}})
	once := client.EnqueueOptions{MaxAttempts: 1}
	for _, test := range []struct {
		action  string
		payload any
		want    string
		options client.EnqueueOptions
	}{
		{"greet", person{"Ana"}, `done {"ok":true,"data":"hello Ana"} `, once},
		{"greet", []int{1}, `failed  payload must be an object, not array`, client.EnqueueOptions{}},
		{"later", nil, `done {"ok":true,"data":"now"} `, client.EnqueueOptions{}},
		{"never", nil, `failed  not an image`, client.EnqueueOptions{}},
		{"panics", nil, `failed  action panics panicked: oh`, once},
		{"members", nil, `done {"ok":true,"data":{"a":1,"b":[2]}} `, once},
	} {
		final, err := c.EnqueueWait(t.Context(), test.action, test.payload, test.options, nil)
		if got := fmt.Sprintf("%s %s %s", final.State, final.Result, final.Error); err != nil || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %s, %v; want %s", test.action, got, err, test.want)
		}
	}
	if result, err := c.Run(t.Context(), "greet", person{"Bo"}); err != nil || result.String() != `{"ok":true,"data":"hello Bo"}` {
		t.Errorf("a direct run: got %s, %v", result, err)
	}
	stop()
	if _, err := c.Run(t.Context(), "greet", person{}); err == nil || !strings.Contains(err.Error(), "unknown action") {
		t.Errorf("after the worker has left: got %v", err)
	}
}

// TestACancelReachesTheContextOfAWorkersAction and so does the timeout, each as its cause.
func TestACancelReachesTheContextOfAWorkersAction(t *testing.T) {
	t.Parallel()
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	c := toNode(t, n, client.Config{})
	entered, causes := make(chan struct{}, 1), make(chan error, 1)
	workFor(t, client.Worker{Addr: n.Addr().String(), Actions: []actions.Action{
		actions.New("wait", func(ctx context.Context, _ *actions.Call) (any, error) {
			entered <- struct{}{}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, ctx.Err()
		}),
	}})
	a, err := c.Enqueue(t.Context(), "wait", nil, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	if _, err := c.Cancel(t.Context(), a.Task); err != nil {
		t.Fatal(err)
	}
	if cause := <-causes; !errors.Is(cause, client.ErrCancelled) {
		t.Errorf("the cause of a cancel is %v", cause)
	}
	if r, err := c.Wait(t.Context(), a.Task); err != nil || r.State != task.Cancelled {
		t.Errorf("cancelled: got %+v, %v", r, err)
	}
	final, err := c.EnqueueWait(t.Context(), "wait", nil, client.EnqueueOptions{Timeout: 50 * time.Millisecond, MaxAttempts: 1}, nil)
	if cause := <-causes; !errors.Is(cause, client.ErrTimedOut) {
		t.Errorf("the cause of a timeout is %v", cause)
	}
	if err != nil || final.State != task.Failed || !strings.HasPrefix(final.Error, "timed out after 0.05s") {
		t.Errorf("timed out: got %+v, %v", final, err)
	}
}

// TestAWorkersTaskGoesOnWhileItsNodeRestarts: the worker names what it holds to the next node.
func TestAWorkersTaskGoesOnWhileItsNodeRestarts(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	config := func(name string) node.Config {
		cfg := node.Config{Name: name, Durable: &durable.Config{Store: kept}}
		cfg.Limits.DrainTimeout = time.Second
		return cfg
	}
	n, stop := startNode(t, "127.0.0.1:0", config("n1"))
	addr := n.Addr().String()
	c := toNode(t, n, client.Config{ConnectWait: time.Minute})
	entered, release := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	workFor(t, client.Worker{Addr: addr, MaxPause: time.Second, Grace: time.Minute, Actions: []actions.Action{
		actions.New("long", func(context.Context, *actions.Call) (any, error) {
			if runs.Add(1) == 1 {
				close(entered)
			}
			<-release
			return "kept", nil
		}),
	}})
	a, err := c.Enqueue(t.Context(), "long", nil, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	stop()
	startNode(t, addr, config("n2"))
	close(release)
	r, err := c.Wait(t.Context(), a.Task)
	if err != nil || r.State != task.Done || r.Result.String() != `{"ok":true,"data":"kept"}` || r.Attempt != 1 || runs.Load() != 1 {
		t.Errorf("got %+v, %v after %d runs", r, err, runs.Load())
	}
}

func TestTwoWorkersRunEachTaskOnce(t *testing.T) {
	t.Parallel()
	const count = 2_000
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	c := toNode(t, n, client.Config{})
	var runs [2][count]atomic.Int32
	var stops []func()
	for w := range runs {
		stops = append(stops, workFor(t, client.Worker{Addr: n.Addr().String(), Slots: 16, Actions: []actions.Action{
			posta.Action("count", func(_ context.Context, i int) (any, error) {
				runs[w][i].Add(1)
				return nil, nil
			}),
		}}))
	}
	var tasks []string
	enqueued := func(yield func(int, client.EnqueueRequest) bool) {
		for i := range count {
			if !yield(i, client.EnqueueRequest{Action: "count", Payload: fmt.Append(nil, i)}) {
				return
			}
		}
	}
	for _, a := range client.StreamEnqueue(t.Context(), c, enqueued) {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		tasks = append(tasks, a.Accepted.Task)
	}
	for _, id := range tasks {
		if r, err := c.Wait(t.Context(), id); err != nil || r.State != task.Done || r.Attempt != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	for _, stop := range stops {
		stop()
	}
	for i := range count {
		if n := runs[0][i].Load() + runs[1][i].Load(); n != 1 {
			t.Errorf("task %d ran %d times", i, n)
		}
	}
}

func TestAWorkerReceivesAndReturnsLargeBodies(t *testing.T) {
	t.Parallel()
	bodies, err := blob.OpenDir(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	n, _ := startNode(t, "127.0.0.1:0", node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), Blobs: bodies}})
	c := toNode(t, n, client.Config{})
	workFor(t, client.Worker{Addr: n.Addr().String(), Actions: []actions.Action{
		posta.Action("double", func(_ context.Context, text string) (string, error) { return text + text, nil }),
	}})
	text := strings.Repeat("x", 900_000)
	final, err := c.EnqueueWait(t.Context(), "double", text, client.EnqueueOptions{}, nil)
	if err != nil || final.State != task.Done || !strings.Contains(final.Result.String(), `"blob":{"size":1800021,`) {
		t.Errorf("got %+v, %v", final, err)
	}
}

func TestAWorkerRefusesAWrongConfiguration(t *testing.T) {
	t.Parallel()
	echo := actions.Builtin()[:1]
	for want, w := range map[string]client.Worker{
		"must be HOST:PORT":                {Addr: "nowhere", Actions: echo},
		"1 to 256 actions, not 0":          {Addr: "127.0.0.1:1"},
		"registered twice":                 {Addr: "127.0.0.1:1", Actions: append(echo, echo...)},
		"Slots is 1025":                    {Addr: "127.0.0.1:1", Actions: echo, Slots: 1025},
		"Grace is 2m0s":                    {Addr: "127.0.0.1:1", Actions: echo, Grace: 2 * time.Minute},
		"Name and Version may have":        {Addr: "127.0.0.1:1", Actions: echo, Version: strings.Repeat("v", 129)},
		`Idempotent names the action "no"`: {Addr: "127.0.0.1:1", Actions: echo, Idempotent: []string{"no"}},
		"MaxPause less than MinPause":      {Addr: "127.0.0.1:1", Actions: echo, MinPause: 2, MaxPause: 1},
	} {
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
