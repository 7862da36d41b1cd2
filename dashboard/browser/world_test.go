package browser_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/dashboard"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/chromium"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/worker"
)

// world is a system of three nodes in this process, with a store in a file and a worker, and tasks in all states.
type world struct {
	t      *testing.T
	origin string
	client *client.Client
	ids    map[string]string // of tasks that tests look at, by name
	turn   chan struct{}     // closed to let the reports turn a page
	finish chan struct{}     // closed to let the slow actions end
}

// system starts the world once for all tests that only look.
func system(t *testing.T) *world {
	t.Helper()
	chromium.Need(t) // skips the test before anything is started
	shared.once.Do(func() { shared.world = start(t, shared.ends) })
	if shared.world == nil {
		t.Fatal("the system did not start")
	}
	w := *shared.world
	w.t = t
	return &w
}

var shared = struct {
	once  sync.Once
	world *world
	ends  *ends
}{ends: &ends{}}

// cleanup returns ends that run with the end of a test.
func cleanup(t *testing.T) *ends {
	t.Helper()
	chromium.Need(t)
	e := &ends{}
	t.Cleanup(e.run)
	return e
}

// ends is what to do at the end, last first.
type ends struct{ list []func() }

func (e *ends) add(f func()) { e.list = append(e.list, f) }

func (e *ends) run() {
	for i := len(e.list) - 1; i >= 0; i-- {
		e.list[i]()
	}
}

// start starts a world and fills it.
func start(t *testing.T, e *ends) *world {
	t.Helper()
	w := &world{t: t, ids: map[string]string{}, turn: make(chan struct{}), finish: make(chan struct{})}
	dir := folder(t, e)
	kept, err := sqlite.Open(sqlite.Config{Path: filepath.Join(dir, "posta.db")})
	if err != nil {
		t.Fatal(err)
	}
	e.add(func() { kept.Close() })
	bodies, err := blob.OpenDir(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	e.add(func() { bodies.Close() })
	hub, pool, history := durable.NewHub(), worker.NewPool(), dashboard.NewHistory()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	e.add(func() {
		close(w.finish)
		stop()
		running.Wait()
	})
	running.Go(func() { remember(ctx, history) })
	addr := ""
	for i := range 3 {
		n, err := node.New(node.Config{
			Name: fmt.Sprintf("node%d", i+1), Listen: "127.0.0.1:0", Version: "0.5.0", Workers: pool, History: history, Actions: w.actions(),
			Durable: &durable.Config{Store: kept, Hub: hub, Blobs: bodies, RunsSuspects: i == 0, Slots: 8},
		})
		if err != nil {
			t.Fatal(err)
		}
		addr = n.Addr().String()
		running.Go(func() { _ = n.Run(ctx) })
	}
	w.origin = "http://" + addr
	if w.client, err = client.New(client.Config{Addr: addr}); err != nil {
		t.Fatal(err)
	}
	e.add(func() { w.client.Close() })
	running.Go(func() { _ = w.worker(addr).Run(ctx) })
	w.fill(ctx)
	return w
}

// actions are those of the nodes.
func (w *world) actions() []actions.Action {
	size := func(_ context.Context, call *actions.Call) (any, error) {
		return map[string]any{"width": 640, "height": 427, "bytes": uint64(math.MaxUint64)}, nil
	}
	count := 0
	var mu sync.Mutex
	crop := func(context.Context, *actions.Call) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		count++
		return nil, actions.Permanent(fmt.Errorf("cannot read image %d: \"a-%d.png\" is truncated at byte %d", count, count, 1000*count))
	}
	refused := func(context.Context, *actions.Call) (any, error) {
		return nil, errors.New("connection refused: crm.example.com:443")
	}
	report := func(ctx context.Context, call *actions.Call) (any, error) {
		call.Report(40, "page 2 of 5")
		select {
		case <-w.turn:
			call.Report(60, "page 3 of 5")
		case <-w.finish:
		case <-ctx.Done():
		}
		select {
		case <-w.finish:
			return "42 pages", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return append(actions.Builtin(), actions.New("resize", size), actions.New("crop", crop), actions.New("crm.sync", refused), actions.New("report", report))
}

// worker is a worker in another program, as far as the nodes know.
func (w *world) worker(addr string) *client.Worker {
	render := func(ctx context.Context, call *actions.Call) (any, error) {
		select {
		case <-w.finish:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}
	return &client.Worker{Addr: addr, Name: "gpu-1", Version: "2.1.0", Slots: 4, Actions: []actions.Action{actions.New("render", render)}}
}

// fill enqueues tasks, and waits until they are where they stay.
func (w *world) fill(ctx context.Context) {
	w.t.Helper()
	enqueue := func(action string, payload any, o client.EnqueueOptions) string {
		accepted, err := w.client.Enqueue(ctx, action, payload, o)
		if err != nil {
			w.t.Fatal(err)
		}
		return accepted.Task
	}
	wait := func(id string) {
		if _, err := w.client.Wait(ctx, id); err != nil {
			w.t.Fatal(err)
		}
	}
	var ids []string
	for i := range 12 {
		ids = append(ids, enqueue("crop", map[string]any{"url": fmt.Sprintf("a-%d.png", i)}, client.EnqueueOptions{Queue: "images"}))
	}
	for i := range 30 {
		ids = append(ids, enqueue("resize", map[string]any{"url": fmt.Sprintf("photo-%d.jpg", 100+i), "width": 640}, client.EnqueueOptions{Queue: "images"}))
	}
	for i := range 3 {
		ids = append(ids, enqueue("crm.sync", map[string]any{"customer": 1000 + i}, client.EnqueueOptions{Queue: "crm", MaxAttempts: 1}))
	}
	for i := range 7 {
		enqueue("transcode", map[string]any{"film": i}, client.EnqueueOptions{Queue: "video"})
	}
	w.ids["waiting"] = enqueue("transcode", map[string]any{"film": 8}, client.EnqueueOptions{Queue: "video"})
	for i := range 3 {
		enqueue("render", map[string]any{"scene": i}, client.EnqueueOptions{Queue: "video"})
	}
	w.ids["running"] = enqueue("report", map[string]any{"month": "2026-11"}, client.EnqueueOptions{Queue: "reports", Timeout: time.Hour})
	enqueue("report", map[string]any{"month": "2026-10"}, client.EnqueueOptions{Queue: "reports", Timeout: time.Hour})
	for i := range 3 {
		enqueue("echo", i, client.EnqueueOptions{Queue: "mail", Delay: time.Hour + time.Duration(i)*time.Minute})
	}
	w.ids["again"] = enqueue("crm.sync", map[string]any{"customer": 7, "tags": []string{"vip", "eu"}, "since": nil, "balance": 18446744073709551615.0}, client.EnqueueOptions{Queue: "crm", MaxAttempts: 5, Backoff: time.Hour, Meta: map[string]string{"tenant": "acme"}})
	w.ids["done"] = enqueue("resize", map[string]any{
		"url": "photo-7.jpg", "width": 640, "formats": []string{"avif", "webp", "jpeg"}, "options": map[string]any{"quality": 82, "strip": true, "background": nil},
	}, client.EnqueueOptions{Queue: "images", Key: "photo-7", Meta: map[string]string{"tenant": "acme", "user": "7"}})
	ids = append(ids, w.ids["done"])
	for _, id := range ids {
		wait(id)
	}
	w.ids["failed"] = ids[0]
	w.ids["crop"] = ids[11]
}

// remember fills the history with an hour of traffic of another node, and goes on with it until ctx ends, so that the
// charts have something to show.
func remember(ctx context.Context, h *dashboard.History) {
	now := time.Now().Truncate(time.Second)
	c := dashboard.Counters{Started: now.Add(-time.Hour)}
	add := func(s int) {
		wave := 14 + 7*math.Sin(float64(s)/47) + 4*math.Sin(float64(s)/11) + 2*math.Sin(float64(s*s%97))
		if s%1100 > 900 {
			wave += 9
		}
		n, failed := int64(max(0, wave)), int64(0)
		if s%9 == 0 || s%1100 > 1000 && s%3 == 0 {
			failed = 1 + n/12
		}
		c.Done, c.Failed = c.Done+n, c.Failed+failed
		c.RunsDone, c.RunsFailed = c.RunsDone+n+6, c.RunsFailed+failed
		h.Backlog(int64(max(0, 22+18*math.Sin(float64(s)/300)+3*math.Sin(float64(s)/13))))
		h.Add("past", now.Add(time.Duration(s-3600)*time.Second), c)
	}
	for s := range 3600 {
		add(s)
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case at := <-second.C:
			add(3600 + int(at.Sub(now).Seconds()))
		case <-ctx.Done():
			return
		}
	}
}

// folder returns a folder that lasts until the end of all tests.
func folder(t *testing.T, e *ends) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "posta-dashboard-") //nolint:usetesting // it may outlive the test
	if err != nil {
		t.Fatal(err)
	}
	e.add(func() { os.RemoveAll(dir) })
	return dir
}
