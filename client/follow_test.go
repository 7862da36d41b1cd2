package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const finalLine = `{"id":%s,"status":"done","task":"T1","result":{"ok":true,"data":1},"attempt":1}`

// watched ranges over a watch of T1 until its end, and gives its error.
func watched(t *testing.T, c *client.Client, after int) (err error) {
	for _, err = range c.Watch(t.Context(), "T1", after) {
	}
	return err
}

// brokenBefore breaks so many connections after a request was read, and gives the next
// one to the rest of the script.
func brokenBefore(times int, op wire.Op, rest func(p *peer, a asked)) func(p *peer) {
	return func(p *peer) {
		p.greet()
		a, ok := p.durable(op)
		switch {
		case p.number < times:
			p.reset()
		case ok:
			rest(p, a)
		}
	}
}

func TestWhatChangesNothingIsSentAgainFreely(t *testing.T) {
	t.Parallel()
	record := func(p *peer, a asked) { p.say(`{"id":%s,"status":"done","task":"T1"}`, a.id) }
	for name, test := range map[string]struct {
		op     wire.Op
		answer func(p *peer, a asked)
		ask    func(c *client.Client) error
	}{
		"get":  {wire.OpGet, record, func(c *client.Client) error { _, err := c.Get(t.Context(), "T1"); return err }},
		"wait": {wire.OpWait, record, func(c *client.Client) error { _, err := c.Wait(t.Context(), "T1"); return err }},
		"list": {wire.OpList, func(p *peer, a asked) { p.say(`{"id":%s,"status":"done","result":{"ok":true,"tasks":[]}}`, a.id) },
			func(c *client.Client) error { _, err := c.List(t.Context(), client.Query{}); return err }},
		"queues": {wire.OpQueues, func(p *peer, a asked) { p.say(`{"id":%s,"status":"done","result":{"ok":true,"queues":[]}}`, a.id) },
			func(c *client.Client) error { _, err := c.Queues(t.Context()); return err }},
		"watch": {wire.OpWatch, func(p *peer, a asked) { p.say(finalLine, a.id) }, func(c *client.Client) error { return watched(t, c, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := overTCP(t, brokenBefore(5, test.op, test.answer))
			if err := test.ask(f.client(t, client.Config{})); err != nil {
				t.Error(err)
			}
			if n := f.dials.Load(); n != 6 {
				t.Errorf("%d connections were opened, want 6", n)
			}
		})
	}
}

func TestAReadingThatNeverArrivesIsNoUnknownOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(brokenBefore(1000, wire.OpGet, nil))
		c := f.client(t, client.Config{})
		if _, err := c.Get(t.Context(), "T1"); err == nil || task.CodeOf(err) == task.UnknownOutcome {
			t.Errorf("got %v", err)
		}
		if n := f.dials.Load(); n != 11 {
			t.Errorf("%d connections were opened, want 11", n)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestWhatChangesSomethingIsSentAgainOnlyWhereThatDoesNoHarm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		op    wire.Op
		again bool
		ask   func(c *client.Client) error
	}{
		"cancel": {wire.OpCancel, true, func(c *client.Client) error { _, err := c.Cancel(t.Context(), "T1"); return err }},
		"pause":  {wire.OpPause, true, func(c *client.Client) error { return c.Pause(t.Context(), "mail") }},
		"resume": {wire.OpResume, true, func(c *client.Client) error { return c.Resume(t.Context(), "mail") }},
		"retry":  {wire.OpRetry, false, func(c *client.Client) error { _, err := c.Retry(t.Context(), "T1"); return err }},
		"cancel by filter": {wire.OpCancel, false, func(c *client.Client) error {
			_, err := c.CancelWhere(t.Context(), client.Filter{Queue: "mail"}, 0)
			return err
		}},
		"retry by filter": {wire.OpRetry, false, func(c *client.Client) error {
			_, err := c.RetryWhere(t.Context(), client.Filter{Queue: "mail"}, 0)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := overTCP(t, brokenBefore(1, test.op, func(p *peer, a asked) {
				p.say(`{"id":%s,"status":"done","task":"T1","result":{"ok":true}}`, a.id)
			}))
			err := test.ask(f.client(t, client.Config{}))
			if test.again && err != nil || !test.again && task.CodeOf(err) != task.UnknownOutcome {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFiltersAndPagesAreAskedForByTheirFields(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 1)
	c := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			lines <- strings.TrimSuffix(a.line[strings.Index(a.line, `"op"`):], "\n")
			p.say(`{"id":%s,"status":"done","result":{"ok":true,"matched":3,"changed":2,"cancelling":1,"more":true,`+
				`"tasks":[{"status":"queued","task":"T1"}],"cursor":"c2"}}`, a.id)
		}
	}).client(t, client.Config{})
	all := client.Filter{Queue: "mail", Action: "send", State: task.Failed, Meta: map[string]string{"user": "7"}}
	bulk, err := c.CancelWhere(t.Context(), all, 10)
	if want := `"op":"cancel","filter":{"queue":"mail","action":"send","status":"failed","meta":{"user":"7"}},"limit":10}`; <-lines != want || err != nil {
		t.Errorf("cancel: %v", err)
	}
	if want := (client.Bulk{Matched: 3, Changed: 2, Cancelling: 1, More: true}); bulk != want {
		t.Errorf("got %+v", bulk)
	}
	_, err = c.RetryWhere(t.Context(), client.Filter{}, 0)
	if want := `"op":"retry","filter":{}}`; <-lines != want || err != nil {
		t.Errorf("retry: %v", err)
	}
	page, err := c.List(t.Context(), client.Query{Filter: all, Limit: 2, Cursor: "c1"})
	if want := `"op":"list","queue":"mail","action":"send","status":"failed","meta":{"user":"7"},"limit":2,"cursor":"c1"}`; <-lines != want || err != nil {
		t.Errorf("list: %v", err)
	}
	if page.Cursor != "c2" || len(page.Tasks) != 1 || page.Tasks[0].Task != "T1" || page.Tasks[0].State != task.Queued {
		t.Errorf("got %+v", page)
	}
}

// TestWaitsAndWatchesAreOutsideTheWindow has many open on a connection with a window of
// one, on which a task still runs.
func TestWaitsAndWatchesAreOutsideTheWindow(t *testing.T) {
	t.Parallel()
	const count = 20
	opened, finish := make(chan struct{}, 3*count), make(chan struct{})
	f := overTCP(t, func(p *peer) {
		p.greet()
		var open []asked
		for len(open) < 3*count {
			a, _ := p.next()
			if a.op == wire.OpEnqueue {
				p.say(`{"id":%s,"status":"queued","task":"T1"}`, a.id)
			}
			open = append(open, a)
			opened <- struct{}{}
		}
		a, _ := p.task()
		p.done(a)
		<-finish
		for _, a := range open {
			p.say(finalLine, a.id)
		}
		p.next()
	})
	c := f.client(t, client.Config{Connections: 1, Window: 1})
	var calls sync.WaitGroup
	for range count {
		calls.Go(func() {
			if r, err := c.Wait(t.Context(), "T1"); err != nil || r.State != task.Done {
				t.Errorf("wait: got %+v, %v", r, err)
			}
		})
		calls.Go(func() {
			if err := watched(t, c, 0); err != nil {
				t.Error(err)
			}
		})
		calls.Go(func() {
			if final, err := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, nil); err != nil || final.State != task.Done {
				t.Errorf("enqueue: got %+v, %v", final, err)
			}
		})
	}
	for range 3 * count {
		<-opened
	}
	if _, err := c.Run(t.Context(), "echo", 1); err != nil {
		t.Error(err)
	}
	close(finish)
	calls.Wait()
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

func TestAWaitGoesOnElsewhereWhenItsNodeDrains(t *testing.T) {
	t.Parallel()
	f := overTCP(t, func(p *peer) {
		p.greet()
		a, ok := p.durable(wire.OpWait)
		switch {
		case !ok:
		case p.number == 0:
			p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
			p.say(`{"id":%s,"status":"error","code":"draining","error":"stops","task":"T1"}`, a.id)
		case p.number == 1:
			p.say(`{"id":%s,"status":"running","task":"T1","attempt":1}`, a.id) // its turn is over
			a, _ = p.durable(wire.OpWait)
			p.say(finalLine, a.id)
		}
	})
	r, err := f.client(t, client.Config{Connections: 1}).Wait(t.Context(), "T1")
	if err != nil || r.State != task.Done || r.Result.String() != `{"ok":true,"data":1}` {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestAWaitTellsTheServerHowLongItLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan string, 2)
		f := inMemory(func(p *peer) {
			p.greet()
			for a, ok := p.durable(wire.OpWait); ok; a, ok = p.durable(wire.OpWait) {
				lines <- a.line[strings.Index(a.line, `"op"`):]
			}
		})
		c := f.client(t, client.Config{})
		for _, test := range []struct {
			wait time.Duration
			want string
		}{
			{5 * time.Second, `"op":"wait","task":"T1","timeout":5}`},
			{time.Hour, `"op":"wait","task":"T1","timeout":60}`},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), test.wait)
			if _, err := c.Wait(ctx, "T1"); !errors.Is(err, context.DeadlineExceeded) || task.CodeOf(err) == task.UnknownOutcome {
				t.Errorf("got %v", err)
			}
			cancel()
			if line := strings.TrimSpace(<-lines); line != test.want {
				t.Errorf("sent %s, want %s", line, test.want)
			}
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

// entry is a line of a history.
func (p *peer) entry(a asked, seq int) {
	p.say(`{"id":%s,"status":"running","task":"T1","attempt":1,"seq":%d,"at":"2026-01-31T08:00:00.000Z","node":"n1"}`, a.id, seq)
}

func TestAWatchResumesAfterTheLastEntryThatWasSeen(t *testing.T) {
	t.Parallel()
	afters, seen := make(chan int, 4), make(chan struct{})
	f := overTCP(t, func(p *peer) {
		p.greet()
		a, ok := p.durable(wire.OpWatch)
		if !ok {
			return
		}
		afters <- a.options.After
		switch p.number {
		case 0:
			p.entry(a, 3)
			p.entry(a, 4)
			<-seen
			p.reset()
		case 1:
			p.entry(a, 4)
			p.entry(a, 5)
			p.say(`{"id":%s,"status":"error","code":"draining","error":"stops","task":"T1"}`, a.id)
		default:
			p.say(`{"id":%s,"status":"running","task":"T1","attempt":1,"progress":{"percent":50,"message":"half"}}`, a.id)
			p.say(`{"id":%s,"status":"failed","task":"T1","error":"no","code":"action_failed","attempt":1,"seq":6}`, a.id)
		}
	})
	c := f.client(t, client.Config{Connections: 1})
	var seqs []int
	var last client.Event
	for e, err := range c.Watch(t.Context(), "T1", 2) {
		if err != nil {
			t.Fatal(err)
		}
		if seqs, last = append(seqs, e.Seq), e; e.Seq == 4 {
			close(seen)
		}
	}
	if want := []int{3, 4, 5, 0, 6}; !slices.Equal(seqs, want) && !slices.Equal(seqs, []int{3, 4, 5, 6}) {
		t.Errorf("got the entries %v, want %v", seqs, want)
	}
	if last.State != task.Failed || last.Code != task.ActionFailed || last.Error != "no" {
		t.Errorf("the last is %+v", last)
	}
	if first, second, third := <-afters, <-afters, <-afters; first != 2 || second != 4 || third != 5 {
		t.Errorf("asked for what is after %d, %d, %d; want 2, 4, 5", first, second, third)
	}
}

// TestASlowWatchLosesProgressOnly stops reading while more comes than is kept.
func TestASlowWatchLosesProgressOnly(t *testing.T) {
	t.Parallel()
	const count = 2000
	f := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			if a.op == wire.OpPing {
				p.say(`{"id":%s,"status":"done","result":{"ok":true,"data":"pong"}}`, a.id)
				continue
			}
			for seq := a.options.After + 1; seq <= count; seq++ {
				p.entry(a, seq)
				p.say(`{"id":%s,"status":"running","task":"T1","attempt":1,"progress":{"percent":50}}`, a.id)
			}
			p.say(`{"id":%s,"status":"done","task":"T1","result":{"ok":true},"attempt":1,"seq":%d}`, a.id, count+1)
		}
	})
	c := f.client(t, client.Config{Connections: 1})
	want := 0
	for e, err := range c.Watch(t.Context(), "T1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Progress != nil {
			continue
		}
		if want++; e.Seq != want {
			t.Fatalf("got entry %d, want %d", e.Seq, want)
		}
		if want == 1 || want == 500 { // all that was sent has come by then
			if err := c.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if want != count+1 {
		t.Errorf("got %d entries", want)
	}
}

// TestWatchesThatWereLeftDoNotPileUp leaves many watches early: their lines are dropped,
// and a connection with too many is replaced.
func TestWatchesThatWereLeftDoNotPileUp(t *testing.T) {
	t.Parallel()
	var most atomic.Int32
	f := overTCP(t, func(p *peer) {
		p.greet()
		open := int32(0)
		for a, ok := p.durable(wire.OpWatch); ok; a, ok = p.durable(wire.OpWatch) {
			open++
			most.Store(max(most.Load(), open))
			p.entry(a, 1)
		}
	})
	c := f.client(t, client.Config{Connections: 1})
	for range 200 {
		for e, err := range c.Watch(t.Context(), "T1", 0) {
			if err != nil || e.Seq != 1 {
				t.Fatalf("got %+v, %v", e, err)
			}
			break
		}
	}
	if n := f.dials.Load(); n < 3 || n > 10 || most.Load() > 40 {
		t.Errorf("%d connections, with at most %d watches each", n, most.Load())
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			p.greet()
			a, _ := p.durable(wire.OpWatch)
			p.entry(a, 1)
			p.next()
		})
		c := f.client(t, client.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		events := 0
		var last error
		for _, err := range c.Watch(ctx, "T1", 0) {
			events++
			last = err
		}
		if events != 2 || !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("%d events, the last %v", events, last)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAnEnqueueWithWaitIsAcceptedThenFinished(t *testing.T) {
	t.Parallel()
	accept := func(p *peer, a asked) {
		if !a.options.Wait {
			panic("no wait: " + a.line)
		}
		p.say(`{"id":%s,"status":"scheduled","task":"T1","run_at":"2026-01-31T08:00:00.000Z"}`, a.id)
	}
	wait := func(p *peer) {
		if a, ok := p.durable(wire.OpWait); ok {
			p.say(finalLine, a.id)
		}
	}
	for name, script := range map[string]func(p *peer, a asked){
		"pushed": func(p *peer, a asked) {
			accept(p, a)
			p.say(finalLine, a.id)
		},
		"drained": func(p *peer, a asked) {
			accept(p, a)
			p.say(`{"id":%s,"status":"error","code":"draining","error":"stops","task":"T1"}`, a.id)
		},
		"broken": func(p *peer, a asked) {
			accept(p, a)
			_ = p.Close()
		},
		"refused at first": func(p *peer, a asked) {
			p.say(`{"id":%s,"status":"error","code":"overloaded","error":"full","retry_after":0.001}`, a.id)
			a, _ = p.durable(wire.OpEnqueue)
			accept(p, a)
			p.say(finalLine, a.id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := overTCP(t, func(p *peer) {
				p.greet()
				if p.number > 0 {
					wait(p)
					return
				}
				if a, ok := p.durable(wire.OpEnqueue); ok {
					script(p, a)
				}
			}).client(t, client.Config{Connections: 1})
			var accepted []client.Accepted
			final, err := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, func(a client.Accepted) { accepted = append(accepted, a) })
			if err != nil || final.State != task.Done || final.Task != "T1" || final.Attempt != 1 || final.Result.String() != `{"ok":true,"data":1}` {
				t.Errorf("got %+v, %v", final, err)
			}
			if len(accepted) != 1 || accepted[0].Task != "T1" || accepted[0].State != task.Scheduled || accepted[0].RunAt.IsZero() {
				t.Errorf("accepted %+v", accepted)
			}
		})
	}
}

func TestAnEnqueueWithWaitOfAFinishedDuplicateHasOneLine(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		a, _ := p.durable(wire.OpEnqueue)
		p.say(`{"id":%s,"status":"failed","task":"T1","error":"no","code":"timed_out","attempt":5,"duplicate":true}`, a.id)
	}).client(t, client.Config{})
	var told client.Accepted
	final, err := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{Key: "k"}, func(a client.Accepted) { told = a })
	want := client.Accepted{Task: "T1", State: task.Failed, Duplicate: true}
	if err != nil || !final.Duplicate || final.Code != task.TimedOut || told != want {
		t.Errorf("got %+v, told %+v, %v", final, told, err)
	}
}

func TestAnEnqueueWithWaitIsUnknownOnlyBeforeItWasAccepted(t *testing.T) {
	t.Parallel()
	f := overTCP(t, breaksEnqueues(1))
	if _, err := f.client(t, client.Config{}).EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, nil); task.CodeOf(err) != task.UnknownOutcome {
		t.Errorf("broken: got %v", err)
	}
	f = overTCP(t, func(p *peer) {
		p.greet()
		a, _ := p.durable(wire.OpEnqueue)
		p.say(`{"id":%s,"status":"queued","task":"T1"}`, a.id)
		p.next()
	})
	ctx, cancel := context.WithCancel(t.Context())
	final, err := f.client(t, client.Config{}).EnqueueWait(ctx, "echo", 1, client.EnqueueOptions{}, func(client.Accepted) { cancel() })
	if task.CodeOf(err) == task.UnknownOutcome || !errors.Is(err, context.Canceled) || final.Task != "T1" || final.State != task.Queued {
		t.Errorf("given up: got %+v, %v", final, err)
	}
}

func TestClosingTheClientEndsWaitsAndWatches(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{}, 3)
	c := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			if a.op == wire.OpEnqueue {
				p.accept(a)
			}
			opened <- struct{}{}
		}
	}).client(t, client.Config{Connections: 1})
	ended := make(chan error, 3)
	go func() { _, err := c.Wait(t.Context(), "T1"); ended <- err }()
	go func() { ended <- watched(t, c, 0) }()
	go func() { _, err := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, nil); ended <- err }()
	for range 3 {
		<-opened
	}
	_ = c.Close()
	for range 3 {
		if err := <-ended; !errors.Is(err, client.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestWhatIsNoRecordIsAnError(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			status := "done"
			if a.op == wire.OpEnqueue {
				status = "queued"
			}
			p.say(`{"id":%s,"status":"%s","task":"T1","attempt":"x","duplicate":7}`, a.id, status)
		}
	}).client(t, client.Config{})
	_, got := c.Get(t.Context(), "T1")
	_, enqueued := c.Enqueue(t.Context(), "echo", 1, client.EnqueueOptions{})
	_, waited := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, nil)
	for i, err := range []error{got, enqueued, waited, watched(t, c, 0)} {
		if err == nil || task.CodeOf(err) != "" && !strings.Contains(fmt.Sprint(err), "attempt") && !strings.Contains(fmt.Sprint(err), "duplicate") {
			t.Errorf("%d: got %v", i, err)
		}
	}
}
