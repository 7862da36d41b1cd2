package client_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// resetsOnce breaks the first connections after their task was read.
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

func TestATaskThatWasWrittenIsNotSentAgain(t *testing.T) {
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
		t.Errorf("the next: %v", err)
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

func TestATaskThatKillsItsNodesIsNotSentForEver(t *testing.T) {
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

// TestATaskThatWasNotWrittenIsSentAgain holds a first task in a write that the server
// does not read, over a network without buffers, so that the second was never written.
func TestATaskThatWasNotWrittenIsSentAgain(t *testing.T) {
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
				t.Errorf("first, of which the socket took nothing: %v", err)
			}
		}
		calls.Go(first)
		synctest.Wait()
		calls.Go(func() {
			if _, err := c.Run(t.Context(), "echo", "second"); err != nil {
				t.Errorf("second, never given to the socket: %v", err)
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

func TestGoawayMovesTheRestElsewhere(t *testing.T) {
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

// TestGoawayGivesBackWhatWasNotWritten tells a connection to leave while its writer is
// stuck: what waits behind that write goes to another connection.
func TestGoawayGivesBackWhatWasNotWritten(t *testing.T) {
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

func TestDrainingAndOverloadedAreTriedAgainAfterTheTimeSaid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, refusal string
		atLeast       time.Duration
	}{
		{"overloaded", `"code":"overloaded","error":"full","retry_after":3`, 3 * time.Second},
		{"draining", `"code":"draining","error":"stops","retry_after":2`, 2 * time.Second},
		{"draining, no time said", `"code":"draining","error":"stops"`, 25 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refusals := 0
				f := inMemory(func(p *peer) {
					p.greet()
					for {
						a, ok := p.task()
						if !ok {
							return
						}
						if refusals++; refusals <= 1 {
							p.say(`{"id":%s,"status":"error",%s}`, a.id, test.refusal)
							continue
						}
						p.done(a)
					}
				})
				c := f.client(t, client.Config{})
				start := time.Now()
				if _, err := c.Run(t.Context(), "echo", 1); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < test.atLeast || took > 2*test.atLeast {
					t.Errorf("took %s, want %s and a little jitter", took, test.atLeast)
				}
				_ = c.Close()
				f.peers.Wait()
			})
		})
	}
}

func TestTheRefusalIsToldWhenThereIsNoTimeToTryAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			p.greet()
			for a, ok := p.task(); ok; a, ok = p.task() {
				p.say(`{"id":%s,"status":"error","code":"overloaded","error":"full","retry_after":3}`, a.id)
			}
		})
		c := f.client(t, client.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Run(ctx, "echo", 1)
		if task.CodeOf(err) != task.Overloaded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the caller waited %s for nothing", took)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestConnectingBacksOffAndComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory((*peer).echo)
		f.refuse.Store(4)
		c := f.client(t, client.Config{})
		start := time.Now()
		if _, err := c.Run(t.Context(), "echo", 1); err != nil {
			t.Fatal(err)
		}
		// Half to all of 50, 100, 200 and 400 ms.
		if took := time.Since(start); took < 375*time.Millisecond || took > 750*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if n := f.dials.Load(); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestARequestWaitsOnlySoLongForAConnection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		wait          time.Duration
		atLeast, most time.Duration
	}{
		{"by default", 0, 10 * time.Second, 12 * time.Second},
		{"not at all", -1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := inMemory((*peer).echo)
				f.refuse.Store(1000)
				c := f.client(t, client.Config{Addr: "node:1", ConnectWait: test.wait})
				start := time.Now()
				_, err := c.Run(t.Context(), "echo", 1)
				if err == nil || !strings.Contains(err.Error(), "connect to node:1: refused by the test") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took < test.atLeast || took > test.most {
					t.Errorf("took %s, want %s to %s", took, test.atLeast, test.most)
				}
				_ = c.Close()
			})
		})
	}
}

func TestARefusedConnectionIsTriedAgainAfterTheTimeSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			if p.number == 0 {
				go func() { _, _ = p.reader.ReadByte() }()
				p.say(`{"id":null,"status":"error","code":"overloaded","error":"too many connections","retry_after":5}`)
				return
			}
			p.echo()
		})
		c := f.client(t, client.Config{})
		start := time.Now()
		if _, err := c.Run(t.Context(), "echo", 1); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("took %s, want 5 s and a little jitter", took)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAServerThatDoesNotAnswerThePingGetsNoTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			if p.number == 0 {
				p.next()
				if _, more := p.next(); more {
					t.Error("a task was sent before the ping was answered")
				}
				return
			}
			p.echo()
		})
		c := f.client(t, client.Config{DialTimeout: 3 * time.Second})
		start := time.Now()
		if _, err := c.Run(t.Context(), "echo", 1); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("took %s", took)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAServerThatAcceptsAndDropsIsNotCalledInALoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			p.greet()
			p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
		})
		c := f.client(t, client.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Run(ctx, "echo", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if n := f.dials.Load(); n > 20 {
			t.Errorf("%d connections in ten seconds", n)
		}
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
		f.peers.Wait() // its end was seen by the server
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

func TestWhatIsNoReplyBreaksTheConnection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, line, want string }{
		{"garbage", "HTTP/1.1 400 Bad Request", "cannot be understood"},
		{"unknown id", `{"id":77,"status":"done","result":{"ok":true}}`, `unknown id "77"`},
		{"id of another kind", `{"id":"a","status":"done","result":{"ok":true}}`, `unknown id "\"a\""`},
		{"no id", `{"id":null,"status":"done","result":{"ok":true}}`, `unknown id ""`},
		{"too long", strings.Repeat("x", 2000), "longer than the 1000 bytes"},
		{"far too long", strings.Repeat("x", 200_000), "longer than the 1000 bytes"},
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
				t.Errorf("the next: %v", err)
			}
		})
	}
}

func TestAReplyOfTheLargestSizeIsRead(t *testing.T) {
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

func TestAFullWindowMakesCallersWaitAndLoseNothing(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{Connections: 2, Window: 2})
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			for range 20 {
				if _, err := c.Run(t.Context(), "echo", 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
}

func TestACallWaitingForRoomMayGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			p.greet()
			for _, ok := p.task(); ok; _, ok = p.task() {
			}
		})
		c := f.client(t, client.Config{Connections: 1, Window: 1})
		var calls sync.WaitGroup
		calls.Go(func() { _, _ = c.Run(t.Context(), "echo", "never answered") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Run(ctx, "echo", 1); !errors.Is(err, context.DeadlineExceeded) || task.CodeOf(err) == task.UnknownOutcome {
			t.Errorf("got %v", err)
		}
		_ = c.Close()
		calls.Wait()
		f.peers.Wait()
	})
}
