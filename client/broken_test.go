package client_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// resetsOnce resets the first connections after it has read a task.
func resetsOnce(times int) func(p *peer) {
	return func(p *peer) {
		if p.number >= times {
			p.echo()
			return
		}
		p.greet()
		p.task()
		p.reset()
	}
}

func TestAWrittenTaskIsNotSentAgain(t *testing.T) {
	t.Parallel()
	f := overTCP(t, resetsOnce(1))
	c := f.client(t, client.Config{})
	_, err := c.Run(t.Context(), "echo", 1)
	if task.CodeOf(err) != task.UnknownOutcome || !strings.Contains(err.Error(), "may or may not have been carried out") {
		t.Errorf("got %v", err)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
	if _, err := c.Run(t.Context(), "echo", 1); err != nil {
		t.Errorf("the next task: %v", err)
	}
}

func TestATaskThatMayRunTwiceIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		cfg     client.Config
		request client.Request
	}{
		{"by the request", client.Config{}, client.Request{Action: "echo", Resend: true}},
		{"by the configuration", client.Config{Resend: true}, client.Request{Action: "echo"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := overTCP(t, resetsOnce(2)).client(t, test.cfg)
			if result, err := c.Do(t.Context(), test.request); err != nil {
				t.Errorf("got %s, %v", result, err)
			}
		})
	}
}

func TestATaskThatKillsItsNodeIsSentFourTimesAtMost(t *testing.T) {
	t.Parallel()
	f := overTCP(t, resetsOnce(100))
	c := f.client(t, client.Config{})
	if _, err := c.Do(t.Context(), client.Request{Action: "echo", Resend: true}); task.CodeOf(err) != task.UnknownOutcome {
		t.Errorf("got %v", err)
	}
	if n := f.dials.Load(); n != 4 {
		t.Errorf("%d connections were opened, want 4", n)
	}
}

// TestAnUnwrittenTaskIsSentAgain uses a network without buffers whose server does not read:
// the write of the first task blocks, so the second task is never written.
func TestAnUnwrittenTaskIsSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crash := make(chan struct{})
		f := inMemory(func(p *peer) {
			p.greet()
			if p.number == 0 {
				<-crash
				return
			}
			p.echo()
		})
		c := f.client(t, client.Config{Connections: 1})
		if err := c.Ping(canceled(t)); err == nil {
			t.Fatal("a ping without time")
		}
		var calls sync.WaitGroup
		first := func() {
			if _, err := c.Run(t.Context(), "echo", "first"); err != nil {
				t.Errorf("the first task, of which no byte was written: %v", err)
			}
		}
		calls.Go(first)
		synctest.Wait()
		calls.Go(func() {
			if _, err := c.Run(t.Context(), "echo", "second"); err != nil {
				t.Errorf("the second task, which was never written: %v", err)
			}
		})
		synctest.Wait()
		close(crash)
		calls.Wait()
		if n := f.dials.Load(); n != 2 {
			t.Errorf("%d connections were opened", n)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestAfterGoawayRequestsGoToAnotherConnection(t *testing.T) {
	t.Parallel()
	first, second := make(chan struct{}), make(chan struct{})
	halfClosed := make(chan bool, 1)
	f := overTCP(t, func(p *peer) {
		if p.number > 0 {
			p.echo()
			return
		}
		p.greet()
		a, _ := p.task()
		close(first)
		p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
		_, more := p.next()
		halfClosed <- !more
		<-second
		p.done(a)
	})
	c := f.client(t, client.Config{Connections: 1})
	var calls sync.WaitGroup
	calls.Go(func() {
		if result, err := c.Run(t.Context(), "echo", "before"); err != nil || result.String() != `{"ok":true,"data":"before"}` {
			t.Errorf("the open task got %s, %v", result, err)
		}
	})
	<-first
	if !<-halfClosed {
		t.Error("the client sent more after goaway")
	}
	if _, err := c.Run(t.Context(), "echo", "after"); err != nil {
		t.Error(err)
	}
	close(second)
	calls.Wait()
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d connections were opened, want 2", n)
	}
}

// TestAfterGoawayUnwrittenRequestsGoToAnotherConnection sends goaway while a write blocks:
// the requests behind that write go to another connection.
func TestAfterGoawayUnwrittenRequestsGoToAnotherConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goaway, finish := make(chan struct{}), make(chan struct{})
		f := inMemory(func(p *peer) {
			p.greet()
			if p.number > 0 {
				p.echo()
				return
			}
			<-goaway
			p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
			<-finish
			a, _ := p.task()
			p.done(a)
		})
		c := f.client(t, client.Config{Connections: 1})
		var stuck, waiting sync.WaitGroup
		stuck.Go(func() {
			if _, err := c.Run(t.Context(), "echo", "stuck"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 3 {
			waiting.Go(func() {
				if _, err := c.Run(t.Context(), "echo", "waiting"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(goaway)
		waiting.Wait()
		close(finish)
		stuck.Wait()
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAnUnusedConnectionIsClosedAndReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory((*peer).echo)
		c := f.client(t, client.Config{Idle: time.Minute})
		for range 10 {
			if _, err := c.Run(t.Context(), "echo", 1); err != nil {
				t.Fatal(err)
			}
			<-time.After(50 * time.Second)
		}
		if n := f.dials.Load(); n != 1 {
			t.Errorf("%d connections while in use", n)
		}
		<-time.After(2 * time.Minute)
		f.peers.Wait() // until the server has seen its end
		if _, err := c.Run(t.Context(), "echo", 1); err != nil {
			t.Error(err)
		}
		if n := f.dials.Load(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAnInvalidReplyEndsTheConnection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, line, want string }{
		{"garbage", "HTTP/1.1 400 Bad Request", "invalid reply"},
		{"unknown id", `{"id":77,"status":"done","result":{"ok":true}}`, `unknown id "77"`},
		{"id of another kind", `{"id":"a","status":"done","result":{"ok":true}}`, `unknown id "\"a\""`},
		{"no id", `{"id":null,"status":"done","result":{"ok":true}}`, `unknown id ""`},
		{"too long", strings.Repeat("x", 2000), "longer than 1000 bytes"},
		{"far too long", strings.Repeat("x", 200_000), "longer than 1000 bytes"},
		{"refusal of the connection", `{"id":null,"status":"error","code":"line_timeout","error":"too slow"}`, "line_timeout: too slow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := overTCP(t, func(p *peer) {
				if p.number > 0 {
					p.echo()
					return
				}
				p.greet()
				p.task()
				p.say("%s", test.line)
				if !strings.Contains(test.line, "line_timeout") {
					p.next()
				}
			}).client(t, client.Config{ReplyBytes: 1000})
			_, err := c.Run(t.Context(), "echo", 1)
			if task.CodeOf(err) != task.UnknownOutcome || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want unknown_outcome with %q", err, test.want)
			}
			if _, err := c.Run(t.Context(), "echo", 1); err != nil {
				t.Errorf("the next task: %v", err)
			}
		})
	}
}

func TestAReplyOfTheLargestAllowedSizeIsRead(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3<<20)
	c := overTCP(t, func(p *peer) {
		p.greet()
		a, _ := p.task()
		a.payload = `"` + large + `"`
		p.done(a)
		p.echo()
	}).client(t, client.Config{})
	result, err := c.Run(t.Context(), "echo", 1)
	if err != nil || len(result.JSON()) < len(large) {
		t.Errorf("got %d bytes, %v", len(result.JSON()), err)
	}
	if _, err := c.Run(t.Context(), "echo", 1); err != nil {
		t.Error(err)
	}
}
