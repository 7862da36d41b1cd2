package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const finalLine = `{"id":%s,"status":"done","task":"T1","result":{"ok":true,"data":1},"attempt":1}`

// brokenBefore resets a number of connections after it has read a request, and passes the
// next one to the rest of the script.
func brokenBefore(times int, op wire.Op, rest func(p *peer, a received)) func(p *peer) {
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

func TestARequestThatOnlyReadsIsSentAgainWithoutResend(t *testing.T) {
	t.Parallel()
	record := func(p *peer, a received) { p.say(`{"id":%s,"status":"done","task":"T1"}`, a.id) }
	for name, test := range map[string]struct {
		op     wire.Op
		answer func(p *peer, a received)
		ask    func(c *client.Client) error
	}{
		"get":  {wire.OpGet, record, func(c *client.Client) error { _, err := c.Get(t.Context(), "T1"); return err }},
		"wait": {wire.OpWait, record, func(c *client.Client) error { _, err := c.Wait(t.Context(), "T1"); return err }},
		"list": {wire.OpList, func(p *peer, a received) { p.say(`{"id":%s,"status":"done","result":{"ok":true,"tasks":[]}}`, a.id) },
			func(c *client.Client) error { _, err := c.List(t.Context(), client.Query{}); return err }},
		"queues": {wire.OpQueues, func(p *peer, a received) { p.say(`{"id":%s,"status":"done","result":{"ok":true,"queues":[]}}`, a.id) },
			func(c *client.Client) error { _, err := c.Queues(t.Context()); return err }},
		"watch": {wire.OpWatch, func(p *peer, a received) { p.say(finalLine, a.id) }, func(c *client.Client) error { return watched(t, c, 0) }},
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

func TestARequestThatOnlyReadsNeverHasAnUnknownOutcome(t *testing.T) {
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

func TestARequestThatChangesSomethingIsSentAgainOnlyIfThatDoesNoHarm(t *testing.T) {
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
			f := overTCP(t, brokenBefore(1, test.op, func(p *peer, a received) {
				p.say(`{"id":%s,"status":"done","task":"T1","result":{"ok":true}}`, a.id)
			}))
			err := test.ask(f.client(t, client.Config{}))
			if test.again && err != nil || !test.again && task.CodeOf(err) != task.UnknownOutcome {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFiltersAndPagesAreSentAsFields(t *testing.T) {
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
	if _, err = c.RetryWhere(t.Context(), client.Filter{}, 0); task.CodeOf(err) != task.InvalidRequest {
		t.Errorf("retry with an empty filter: got %v", err)
	}
	_, err = c.RetryWhere(t.Context(), client.Filter{State: task.Failed}, 0)
	if want := `"op":"retry","filter":{"status":"failed"}}`; <-lines != want || err != nil {
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

// TestWaitsAndWatchesDoNotCountAgainstTheWindow opens many of them on a connection with a
// window of one, on which a task can still run.
func TestWaitsAndWatchesDoNotCountAgainstTheWindow(t *testing.T) {
	t.Parallel()
	const count = 20
	opened, finish := make(chan struct{}, 3*count), make(chan struct{})
	f := overTCP(t, func(p *peer) {
		p.greet()
		var open []received
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

func TestAWaitContinuesOnAnotherConnectionWhenItsNodeDrains(t *testing.T) {
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
			p.say(`{"id":%s,"status":"running","task":"T1","attempt":1}`, a.id) // its timeout is over
			a, _ = p.durable(wire.OpWait)
			p.say(finalLine, a.id)
		}
	})
	r, err := f.client(t, client.Config{Connections: 1}).Wait(t.Context(), "T1")
	if err != nil || r.State != task.Done || r.Result.String() != `{"ok":true,"data":1}` {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestAWaitSendsItsTimeout(t *testing.T) {
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

func TestEnqueueWaitReportsTheAcceptedAndTheFinishedTask(t *testing.T) {
	t.Parallel()
	accept := func(p *peer, a received) {
		if !a.options.Wait {
			panic("wait is not set: " + a.line)
		}
		p.say(`{"id":%s,"status":"scheduled","task":"T1","run_at":"2026-01-31T08:00:00.000Z"}`, a.id)
	}
	wait := func(p *peer) {
		if a, ok := p.durable(wire.OpWait); ok {
			p.say(finalLine, a.id)
		}
	}
	for name, script := range map[string]func(p *peer, a received){
		"pushed": func(p *peer, a received) {
			accept(p, a)
			p.say(finalLine, a.id)
		},
		"drained": func(p *peer, a received) {
			accept(p, a)
			p.say(`{"id":%s,"status":"error","code":"draining","error":"stops","task":"T1"}`, a.id)
		},
		"broken": func(p *peer, a received) {
			accept(p, a)
			_ = p.Close()
		},
		"refused at first": func(p *peer, a received) {
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

func TestEnqueueWaitOfAFinishedDuplicateHasOneLine(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		a, _ := p.durable(wire.OpEnqueue)
		p.say(`{"id":%s,"status":"failed","task":"T1","error":"no","code":"timed_out","attempt":5,"duplicate":true}`, a.id)
	}).client(t, client.Config{})
	var duplicate client.Accepted
	final, err := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{Key: "k"}, func(a client.Accepted) { duplicate = a })
	want := client.Accepted{Task: "T1", State: task.Failed, Duplicate: true}
	if err != nil || !final.Duplicate || final.Code != task.TimedOut || duplicate != want {
		t.Errorf("got %+v, accepted %+v, %v", final, duplicate, err)
	}
}

func TestEnqueueWaitHasAnUnknownOutcomeOnlyBeforeTheTaskIsAccepted(t *testing.T) {
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

func TestAReplyThatIsNotARecordIsAnError(t *testing.T) {
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
