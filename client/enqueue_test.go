package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// accepts accepts enqueues until the connection ends. The id of each task is its payload.
func (p *peer) accepts() {
	for {
		a, ok := p.next()
		switch {
		case !ok:
			return
		case a.op == wire.OpPing:
			p.say(`{"id":%s,"status":"done","result":{"ok":true,"data":"pong"}}`, a.id)
		case a.op == wire.OpEnqueue:
			p.accept(a)
		default:
			panic("the op is not enqueue: " + a.line)
		}
	}
}

func (p *peer) accept(a received) {
	p.say(`{"id":%s,"status":"queued","task":"T%s"}`, a.id, a.payload)
}

// breaksEnqueues resets the first connections after it has read an enqueue.
func breaksEnqueues(times int) func(p *peer) {
	return func(p *peer) {
		if p.number >= times {
			p.accepts()
			return
		}
		p.greet()
		p.durable(wire.OpEnqueue)
		p.reset()
	}
}

func TestAnEnqueueSendsAllOptions(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 10)
	c := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			lines <- strings.Replace(strings.TrimSuffix(a.line, "\n"), `"id":`+a.id, `"id":N`, 1)
			p.say(`{"id":%s,"status":"scheduled","task":"T1","run_at":"2026-01-31T08:00:00.000Z","duplicate":true,"warning":"no node has it"}`, a.id)
		}
	}).client(t, client.Config{})
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	got, err := c.Enqueue(t.Context(), "upper", "hola", client.EnqueueOptions{
		Queue: "mail", Priority: "high", RunAt: at, Expires: time.Hour, Timeout: 90 * time.Second,
		MaxAttempts: 3, Key: "k", Keep: time.Minute, Meta: map[string]string{"b": "2", "a": "1"},
	})
	want := client.Accepted{Task: "T1", State: task.Scheduled, RunAt: at, Duplicate: true, Warning: "no node has it"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if line, want := <-lines, `{"id":N,"op":"enqueue","action":"upper","queue":"mail","priority":"high","run_at":"2026-01-31T08:00:00Z",`+
		`"expires":3600,"timeout":90,"max_attempts":3,"key":"k","keep":60,"meta":{"a":"1","b":"2"},"payload":"hola"}`; line != want {
		t.Errorf("sent\n%s, want\n%s", line, want)
	}
	if _, err := c.Enqueue(t.Context(), "upper", nil, client.EnqueueOptions{Delay: 1500 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	if line, want := <-lines, `{"id":N,"op":"enqueue","action":"upper","delay":1.5}`; line != want {
		t.Errorf("sent\n%s, want\n%s", line, want)
	}
}

func TestTheClientRefusesInvalidEnqueues(t *testing.T) {
	t.Parallel()
	f := overTCP(t, (*peer).accepts)
	c := f.client(t, client.Config{LineBytes: 1000})
	for name, test := range map[string]struct {
		action  string
		payload any
		options client.EnqueueOptions
		code    task.Code
	}{
		"no action":      {"", nil, client.EnqueueOptions{}, task.InvalidRequest},
		"no JSON":        {"a", json.RawMessage(`{`), client.EnqueueOptions{}, task.InvalidJSON},
		"no payload":     {"a", make(chan int), client.EnqueueOptions{}, task.InvalidRequest},
		"queue":          {"a", nil, client.EnqueueOptions{Queue: "A"}, task.InvalidRequest},
		"priority":       {"a", nil, client.EnqueueOptions{Priority: "urgent"}, task.InvalidRequest},
		"both times":     {"a", nil, client.EnqueueOptions{Delay: 1, RunAt: time.Now()}, task.InvalidRequest},
		"negative delay": {"a", nil, client.EnqueueOptions{Delay: -time.Second}, task.InvalidRequest},
		"dots":           {"a", nil, client.EnqueueOptions{Queue: ".."}, task.InvalidRequest},
		"NUL in action":  {"a\x00", nil, client.EnqueueOptions{}, task.InvalidRequest},
		"ESC in action":  {"a\x1b", 1, client.EnqueueOptions{}, task.InvalidRequest},
		"no UTF-8":       {"a\xff", nil, client.EnqueueOptions{}, task.InvalidRequest},
		"key":            {"a", nil, client.EnqueueOptions{Key: "k\x00y"}, task.InvalidRequest},
		"key no UTF-8":   {"a", nil, client.EnqueueOptions{Key: "k\xff"}, task.InvalidRequest},
		"label":          {"a", nil, client.EnqueueOptions{Meta: map[string]string{"a\x00": "b"}}, task.InvalidRequest},
		"label no UTF-8": {"a", nil, client.EnqueueOptions{Meta: map[string]string{"a": "\xff"}}, task.InvalidRequest},
		"long":           {"a", strings.Repeat("x", 1000), client.EnqueueOptions{}, task.LineTooLong},
	} {
		if _, err := c.Enqueue(t.Context(), test.action, test.payload, test.options); task.CodeOf(err) != test.code {
			t.Errorf("%s: got %v, want %s", name, err, test.code)
		}
		if _, err := c.EnqueueWait(t.Context(), test.action, test.payload, test.options, nil); task.CodeOf(err) != test.code {
			t.Errorf("%s, with wait: got %v, want %s", name, err, test.code)
		}
	}
	if n := f.dials.Load(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
}

func TestAWrittenEnqueueIsSentAgainOnlyWithAKeyOrResend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		cfg     client.Config
		options client.EnqueueOptions
		code    task.Code
		dials   int32
	}{
		{"neither", client.Config{}, client.EnqueueOptions{}, task.UnknownOutcome, 1},
		{"key", client.Config{}, client.EnqueueOptions{Key: "k"}, "", 3},
		{"asked for", client.Config{}, client.EnqueueOptions{Resend: true}, "", 3},
		{"configured", client.Config{Resend: true}, client.EnqueueOptions{}, "", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, enqueue := range []func(c *client.Client) error{
				func(c *client.Client) error {
					_, err := c.Enqueue(t.Context(), "echo", 1, test.options)
					return err
				},
				func(c *client.Client) error {
					request := client.EnqueueRequest{Action: "echo", Payload: []byte("1"), EnqueueOptions: test.options}
					for _, a := range client.StreamEnqueue(t.Context(), c, one(request)) {
						return a.Err
					}
					return errors.New("the stream has no outcome")
				},
			} {
				f := overTCP(t, breaksEnqueues(2))
				err := enqueue(f.client(t, test.cfg))
				if code := task.CodeOf(err); err != nil && code != test.code || err == nil && test.code != "" {
					t.Errorf("got %v", err)
				}
				if n := f.dials.Load(); n != test.dials {
					t.Errorf("%d connections were opened, want %d", n, test.dials)
				}
			}
		})
	}
}

// one returns a sequence of one task.
func one(r client.EnqueueRequest) iter.Seq2[int, client.EnqueueRequest] {
	return func(yield func(int, client.EnqueueRequest) bool) { yield(0, r) }
}

func TestARefusalOfADurableOpHasAllItsFields(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		for a, ok := p.next(); ok; a, ok = p.next() {
			p.say(`{"id":%s,"status":"error","code":"conflict","error":"no","task":"T1","state":"done","field":"task","retry_after":1.5}`, a.id)
		}
	}).client(t, client.Config{})
	_, enqueued := c.Enqueue(t.Context(), "echo", 1, client.EnqueueOptions{Key: "k"})
	_, got := c.Get(t.Context(), "T1")
	_, canceled := c.Cancel(t.Context(), "T1")
	_, retried := c.Retry(t.Context(), "T1")
	_, finished := c.EnqueueWait(t.Context(), "echo", 1, client.EnqueueOptions{}, nil)
	for _, err := range []error{enqueued, got, canceled, retried, finished, watched(t, c, 0)} {
		want := task.Error{Code: task.Conflict, Message: "no", Task: "T1", State: "done", Field: "task", RetryAfter: 1500 * time.Millisecond}
		var refusal *task.Error
		if !errors.As(err, &refusal) || *refusal != want {
			t.Errorf("got %+v, want %+v", err, want)
		}
	}
}

func TestAnEnqueueMovesToAnotherConnectionWhenItsNodeDrains(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"goaway", "refusal"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := overTCP(t, func(p *peer) {
				p.greet()
				if p.number > 0 {
					p.accepts()
					return
				}
				a, _ := p.durable(wire.OpEnqueue)
				if how == "goaway" {
					p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
				}
				p.say(`{"id":%s,"status":"error","code":"draining","error":"stops","retry_after":0.01}`, a.id)
			})
			if a, err := f.client(t, client.Config{}).Enqueue(t.Context(), "echo", 1, client.EnqueueOptions{}); err != nil || a.Task != "T1" {
				t.Errorf("got %+v, %v", a, err)
			}
			if n := f.dials.Load(); n != 2 {
				t.Errorf("%d connections were opened", n)
			}
		})
	}
}

// enqueues returns count tasks whose payloads are their numbers.
func enqueues(count int) iter.Seq2[int, client.EnqueueRequest] {
	return func(yield func(int, client.EnqueueRequest) bool) {
		for i := range count {
			if !yield(i, client.EnqueueRequest{Action: "echo", Payload: fmt.Append(nil, i)}) {
				return
			}
		}
	}
}

func TestStreamEnqueueYieldsEachOutcomeUnderItsKeyInConstantMemory(t *testing.T) {
	count := 100_000
	if testing.Short() {
		count = 10_000
	}
	c := overTCP(t, (*peer).accepts).client(t, client.Config{})
	var before, after runtime.MemStats
	seen, largest := make([]bool, count), uint64(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for i, a := range client.StreamEnqueue(t.Context(), c, enqueues(count)) {
		if want := fmt.Sprintf("T%d", i); a.Err != nil || a.Accepted.Task != want || a.Accepted.State != task.Queued || seen[i] {
			t.Fatalf("task %d: got %+v", i, a)
		}
		seen[i] = true
		if n++; n%(count/5) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			largest = max(largest, after.HeapAlloc)
		}
	}
	if slices.Contains(seen, false) {
		t.Error("a task has no outcome")
	}
	if grown := int64(largest) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
