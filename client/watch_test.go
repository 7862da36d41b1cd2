package client_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// watched ranges over a watch of T1 and returns its error.
func watched(t *testing.T, c *client.Client, after int) (err error) {
	for _, err = range c.Watch(t.Context(), "T1", after) {
	}
	return err
}

// entry sends an entry of the history.
func (p *peer) entry(a received, seq int) {
	p.say(`{"id":%s,"status":"running","task":"T1","attempt":1,"seq":%d,"at":"2026-01-31T08:00:00.000Z","node":"n1"}`, a.id, seq)
}

func TestAWatchResumesAfterTheLastEntryItYielded(t *testing.T) {
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
		t.Errorf("after was %d, %d, %d; want 2, 4, 5", first, second, third)
	}
}

// TestASlowWatchLosesOnlyProgress stops reading while more lines arrive than a follower keeps.
func TestASlowWatchLosesOnlyProgress(t *testing.T) {
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
		if want == 1 || want == 500 { // wait until all lines have arrived
			if err := c.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if want != count+1 {
		t.Errorf("got %d entries", want)
	}
}

// TestAbandonedWatchesDoNotAccumulate leaves many watches early. Their lines are dropped, and
// a connection with too many of them is replaced.
func TestAbandonedWatchesDoNotAccumulate(t *testing.T) {
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
