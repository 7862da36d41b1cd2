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

func TestDrainingAndOverloadedAreTriedAgainAfterRetryAfter(t *testing.T) {
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

func TestTheRefusalIsReturnedWhenThereIsNoTimeToTryAgain(t *testing.T) {
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
			t.Errorf("the caller waited %s, want no wait", took)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestConnectingBacksOffUntilItSucceeds(t *testing.T) {
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

func TestARequestWaitsForAConnectionAtMostConnectWait(t *testing.T) {
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

func TestARefusedConnectionIsTriedAgainAfterRetryAfter(t *testing.T) {
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
					t.Error("a task was sent before the reply to the ping")
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

func TestAServerThatAcceptsAndDropsConnectionsIsNotDialledInALoop(t *testing.T) {
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

func TestCallersWaitForAFullWindowAndLoseNoRequest(t *testing.T) {
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

func TestACallThatWaitsForAFullWindowMayGiveUp(t *testing.T) {
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

// TestAConnectionWhoseServerHangsIsReplaced stops answering on one connection, as a stopped
// process does. When no caller waits there any more, the next call uses another connection.
func TestAConnectionWhoseServerHangsIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(func(p *peer) {
			if p.number > 0 {
				p.echo()
				return
			}
			p.greet()
			for _, ok := p.task(); ok; _, ok = p.task() {
			}
		})
		c := f.client(t, client.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Run(ctx, "echo", 1); !errors.Is(err, context.DeadlineExceeded) || task.CodeOf(err) != task.UnknownOutcome {
			t.Errorf("got %v", err)
		}
		if _, err := c.Run(t.Context(), "echo", 2); err != nil {
			t.Error(err)
		}
		<-time.After(time.Minute) // by then the hanging connection is closed
		_ = c.Close()
		f.peers.Wait()
	})
}
