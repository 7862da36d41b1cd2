package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func TestRunReturnsTheResult(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	result, err := c.Run(t.Context(), "upper", "hola")
	if err != nil {
		t.Fatal(err)
	}
	var data string
	if err := result.Data(&data); err != nil || data != "HOLA" {
		t.Errorf("got %q, %v", data, err)
	}
	if got, want := result.String(), `{"ok":true,"data":"HOLA"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPayloadsArriveUnchanged(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	for _, test := range []struct {
		payload any
		want    string
	}{
		{nil, `null`},
		{"a\"b\n<é>", `"a\"b\n<é>"`},
		{map[string]any{"html": "<&>"}, `{"html":"<&>"}`},
		{json.RawMessage("[1.0,\n 12345678901234567890]"), `[1.0,12345678901234567890]`},
		{json.RawMessage(nil), `null`},
		{7, `7`},
	} {
		result, err := c.Run(t.Context(), "echo", test.payload)
		if err != nil {
			t.Errorf("%v: %v", test.payload, err)
			continue
		}
		if want := `{"ok":true,"data":` + test.want + `}`; result.String() != want {
			t.Errorf("%v: got %s, want %s", test.payload, result, want)
		}
	}
}

func TestAFailedActionReturnsAnActionErrorAndItsResult(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	result, err := c.Run(t.Context(), "nope", nil)
	var failure *client.ActionError
	if !errors.As(err, &failure) || failure.Action != "nope" || failure.Message != "unknown action nope" {
		t.Fatalf("got %v", err)
	}
	if result.String() != `{"ok":false,"error":"unknown action nope"}` {
		t.Errorf("got %s", result)
	}
}

func TestTheClientRefusesInvalidRequests(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{LineBytes: 1000})
	deep := strings.Repeat("[", task.MaxDepth) + strings.Repeat("]", task.MaxDepth)
	for _, test := range []struct {
		name    string
		request client.Request
		want    task.Code
	}{
		{"no JSON", client.Request{Action: "echo", Payload: json.RawMessage(`{`)}, task.InvalidJSON},
		{"empty, not nil", client.Request{Action: "echo", Payload: json.RawMessage{}}, task.InvalidJSON},
		{"two lines", client.Request{Action: "echo", Payload: json.RawMessage("1}\n{\"id\":2")}, task.InvalidJSON},
		{"more members", client.Request{Action: "echo", Payload: json.RawMessage(`1,"op":"info"`)}, task.InvalidJSON},
		{"unknown member", client.Request{Action: "echo", Payload: json.RawMessage(`1,"x":2`)}, task.UnknownField},
		{"duplicate key", client.Request{Action: "echo", Payload: json.RawMessage(`{"a":1,"a":2}`)}, task.InvalidJSON},
		{"too deep", client.Request{Action: "echo", Payload: json.RawMessage(deep)}, task.InvalidJSON},
		{"too long", client.Request{Action: "echo", Payload: json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)}, task.LineTooLong},
		{"no action", client.Request{}, task.InvalidRequest},
		{"long action", client.Request{Action: strings.Repeat("x", 129)}, task.InvalidRequest},
		{"action with NUL", client.Request{Action: "echo\x00"}, task.InvalidRequest},
		{"action that is no UTF-8", client.Request{Action: "echo\xff"}, task.InvalidRequest},
		{"negative timeout", client.Request{Action: "echo", Timeout: -1}, task.InvalidRequest},
		{"long timeout", client.Request{Action: "echo", Timeout: 2 * time.Hour}, task.InvalidRequest},
	} {
		if _, err := c.Do(t.Context(), test.request); task.CodeOf(err) != test.want {
			t.Errorf("%s: got %v, want code %s", test.name, err, test.want)
		}
	}
	if _, err := c.Run(t.Context(), "echo", make(chan int)); task.CodeOf(err) != task.InvalidRequest {
		t.Errorf("a channel: got %v", err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRepliesAreMatchedByID(t *testing.T) {
	t.Parallel()
	const together = 50
	c := overTCP(t, func(p *peer) {
		p.greet()
		var all []received
		for range together {
			a, _ := p.task()
			all = append(all, a)
		}
		for i := range all {
			p.done(all[(i*7+3)%together])
		}
		p.echo()
	}).client(t, client.Config{Connections: 1})
	var calls sync.WaitGroup
	for i := range together {
		calls.Go(func() {
			result, err := c.Run(t.Context(), "echo", i)
			if want := fmt.Sprintf(`{"ok":true,"data":%d}`, i); err != nil || result.String() != want {
				t.Errorf("got %s, %v; want %s", result, err, want)
			}
		})
	}
	calls.Wait()
}

func TestInfoDescribesTheNode(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	info, err := c.Info(t.Context())
	if err != nil || info.Node != "n1" || info.Slots != 4 || len(info.Actions) != 1 {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestARefusalIsATaskErrorWithAllItsFields(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		a, _ := p.task()
		p.say(`{"id":%s,"status":"error","code":"payload_too_large","error":"too large","limit":"1 MiB","field":"payload"}`, a.id)
		p.echo()
	}).client(t, client.Config{})
	_, err := c.Run(t.Context(), "echo", 1)
	var refusal *task.Error
	if !errors.As(err, &refusal) || refusal.Code != task.PayloadTooLarge || refusal.Limit != "1 MiB" || refusal.Field != "payload" {
		t.Errorf("got %#v", err)
	}
}

func TestACallThatGivesUpDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	both, reply := make(chan struct{}), make(chan struct{})
	f := overTCP(t, func(p *peer) {
		p.greet()
		first, _ := p.task()
		second, _ := p.task()
		close(both)
		<-reply
		p.done(first)
		p.done(second)
		p.echo()
	})
	c := f.client(t, client.Config{Connections: 1})

	ctx, cancel := context.WithCancel(t.Context())
	var gone, other sync.WaitGroup
	gone.Go(func() {
		_, err := c.Run(ctx, "echo", "slow")
		if !errors.Is(err, context.Canceled) || task.CodeOf(err) != task.UnknownOutcome {
			t.Errorf("got %v", err)
		}
	})
	other.Go(func() {
		if result, err := c.Run(t.Context(), "echo", "other"); err != nil || result.String() != `{"ok":true,"data":"other"}` {
			t.Errorf("got %s, %v", result, err)
		}
	})
	<-both
	cancel()
	gone.Wait()
	close(reply)
	other.Wait()
	if _, err := c.Run(t.Context(), "echo", "third"); err != nil {
		t.Error(err)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

// TestNoReplyReachesTheWrongCaller lets many callers give up at random moments while the
// connections are full.
func TestNoReplyReachesTheWrongCaller(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{Connections: 2, Window: 4})
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == caller%2 {
					go cancel()
				}
				number := caller*1000 + i
				result, err := c.Run(ctx, "echo", number)
				if want := fmt.Sprintf(`{"ok":true,"data":%d}`, number); err == nil && result.String() != want {
					t.Errorf("got %s, want %s", result, want)
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
}

func TestAnEndedContextSendsNothing(t *testing.T) {
	t.Parallel()
	f := overTCP(t, (*peer).echo)
	c := f.client(t, client.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Run(ctx, "echo", 1); !errors.Is(err, context.Canceled) || task.CodeOf(err) == task.UnknownOutcome {
		t.Errorf("got %v", err)
	}
	if f.dials.Load() != 0 {
		t.Error("a connection was opened")
	}
}

func TestTheTokenIsSentFirst(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		a, _ := p.next()
		if a.op != wire.OpAuth || a.token != "sésamo\"" {
			p.say(`{"id":%s,"status":"error","code":"unauthenticated","error":"no"}`, a.id)
			return
		}
		p.say(`{"id":%s,"status":"done","result":{"ok":true,"name":"n","scopes":[]}}`, a.id)
		p.echo()
	}).client(t, client.Config{Token: "sésamo\""})
	if _, err := c.Run(t.Context(), "echo", 1); err != nil {
		t.Error(err)
	}
}

func TestAnUnknownTokenFailsAtOnce(t *testing.T) {
	t.Parallel()
	f := overTCP(t, func(p *peer) {
		a, _ := p.next()
		p.say(`{"id":%s,"status":"error","code":"unauthenticated","error":"the token is not known"}`, a.id)
	})
	c := f.client(t, client.Config{Token: "wrong"})
	if _, err := c.Run(t.Context(), "echo", 1); task.CodeOf(err) != task.Unauthenticated {
		t.Errorf("got %v", err)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

func TestCloseFailsWaitingCalls(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	c := overTCP(t, func(p *peer) {
		p.greet()
		p.task()
		arrived <- struct{}{}
		p.next()
	}).client(t, client.Config{Connections: 1, Window: 1})
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := c.Run(t.Context(), "echo", "written")
		if !errors.Is(err, client.ErrClosed) || task.CodeOf(err) != task.UnknownOutcome {
			t.Errorf("the written call: %v", err)
		}
	})
	<-arrived
	for range 5 {
		calls.Go(func() {
			_, err := c.Run(t.Context(), "echo", "waits")
			if !errors.Is(err, client.ErrClosed) || task.CodeOf(err) == task.UnknownOutcome {
				t.Errorf("a waiting call: %v", err)
			}
		})
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	if _, err := c.Run(t.Context(), "echo", 1); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNewReturnsAnErrorThatNamesTheWrongValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  client.Config
		want string
	}{
		{client.Config{}, "HOST:PORT"},
		{client.Config{Addr: "localhost"}, "HOST:PORT"},
		{client.Config{Addr: "h:1", Connections: -1}, "Connections is -1"},
		{client.Config{Addr: "h:1", Window: 256}, "Window is 256: 1 to 255"},
		{client.Config{Addr: "h:1", Idle: -1}, "negative"},
	} {
		if _, err := client.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.cfg, err, test.want)
		}
	}
}

func TestConcurrentCallersSpreadOverTheConnections(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	served := map[int]int{}
	f := overTCP(t, func(p *peer) {
		p.greet()
		for {
			a, ok := p.task()
			if !ok {
				return
			}
			mu.Lock()
			served[p.number]++
			mu.Unlock()
			p.done(a)
		}
	})
	c := f.client(t, client.Config{Connections: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(served) == 3
	}
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			for !all() {
				if _, err := c.Run(ctx, "echo", 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	calls.Wait()
	if n := f.dials.Load(); n != 3 {
		t.Errorf("%d connections were opened, want 3", n)
	}
}

func TestOneCallerUsesOneConnection(t *testing.T) {
	t.Parallel()
	f := overTCP(t, (*peer).echo)
	c := f.client(t, client.Config{})
	for range 50 {
		if _, err := c.Run(t.Context(), "echo", 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}
