package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// numbers returns count tasks that echo their numbers.
func numbers(count int) iter.Seq2[int, client.Request] {
	return func(yield func(int, client.Request) bool) {
		for i := range count {
			if !yield(i, client.Request{Action: "echo", Payload: strconv.AppendInt(nil, int64(i), 10)}) {
				return
			}
		}
	}
}

// checkNumbers ranges over a stream of numbers and compares every outcome with its key.
func checkNumbers(t *testing.T, count int, outcomes iter.Seq2[int, client.Outcome]) {
	t.Helper()
	seen := make([]bool, count)
	total := 0
	for i, outcome := range outcomes {
		total++
		if want := fmt.Sprintf(`{"ok":true,"data":%d}`, i); outcome.Err != nil || outcome.Result.String() != want {
			t.Fatalf("task %d: got %s, %v", i, outcome.Result, outcome.Err)
		}
		if seen[i] {
			t.Fatalf("task %d has two outcomes", i)
		}
		seen[i] = true
	}
	if total != count {
		t.Errorf("got %d outcomes of %d tasks", total, count)
	}
}

func TestAStreamYieldsEachOutcomeUnderItsKey(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	for _, count := range []int{0, 1, 20_000} {
		checkNumbers(t, count, client.Stream(t.Context(), c, numbers(count)))
	}
}

func TestAStreamDistinguishesFailuresFromRefusals(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	tasks := func(yield func(string, client.Request) bool) {
		_ = yield("fine", client.Request{Action: "echo"}) &&
			yield("failed", client.Request{Action: "nope"}) &&
			yield("refused", client.Request{Action: "echo", Payload: json.RawMessage(`{`)})
	}
	got := map[string]error{}
	for key, outcome := range client.Stream(t.Context(), c, tasks) {
		got[key] = outcome.Err
	}
	var failure *client.ActionError
	if got["fine"] != nil || !errors.As(got["failed"], &failure) || task.CodeOf(got["refused"]) != task.InvalidJSON || len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestAStreamLosesNoTaskToGoawayAndRefusals sends goaway on every connection after some
// tasks, and refuses some tasks.
func TestAStreamLosesNoTaskToGoawayAndRefusals(t *testing.T) {
	t.Parallel()
	c := overTCP(t, func(p *peer) {
		p.greet()
		for i := 0; ; i++ {
			a, ok := p.task()
			switch {
			case !ok:
				return
			case i == 300:
				p.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
				p.done(a)
			case i%100 == 7:
				p.say(`{"id":%s,"status":"error","code":"overloaded","error":"full","retry_after":0.002}`, a.id)
			default:
				p.done(a)
			}
		}
	}).client(t, client.Config{Window: 32})
	checkNumbers(t, 5000, client.Stream(t.Context(), c, numbers(5000)))
}

func TestAStreamReportsUnknownOutcomes(t *testing.T) {
	t.Parallel()
	const count, window = 1000, 10
	c := overTCP(t, func(p *peer) {
		if p.number > 0 {
			p.echo()
			return
		}
		p.greet()
		p.task()
		p.reset()
	}).client(t, client.Config{Connections: 1, Window: window})
	unknown, done := 0, 0
	for _, outcome := range client.Stream(t.Context(), c, numbers(count)) {
		switch {
		case outcome.Err == nil:
			done++
		case task.CodeOf(outcome.Err) == task.UnknownOutcome:
			unknown++
		default:
			t.Errorf("got %v", outcome.Err)
		}
	}
	if unknown < 1 || unknown > window || unknown+done != count {
		t.Errorf("%d unknown and %d done of %d", unknown, done, count)
	}
}

func TestAStreamReadsItsTasksAsSlowlyAsItsOutcomesAreRead(t *testing.T) {
	t.Parallel()
	const connections, window = 2, 8
	c := overTCP(t, (*peer).echo).client(t, client.Config{Connections: connections, Window: window})
	var taken atomic.Int64
	endless := func(yield func(int, client.Request) bool) {
		for i := 0; yield(i, client.Request{Action: "echo"}); i++ {
			taken.Add(1)
		}
	}
	yielded := int64(0)
	for range client.Stream(t.Context(), c, endless) {
		// At most a full budget is in flight, and the loop has one outcome.
		if ahead := taken.Load() - yielded; ahead > 2*connections*window+1 {
			t.Fatalf("the stream is %d tasks ahead of the loop", ahead)
		}
		if yielded++; yielded == 1000 {
			break
		}
	}
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const count = 40
		f := inMemory(func(p *peer) {
			p.greet()
			for a, ok := p.task(); ok; a, ok = p.task() {
				if a.payload == "0" {
					p.done(a)
				}
			}
		})
		c := f.client(t, client.Config{Connections: 1, Window: 10})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		outcomes, ended := 0, 0
		for _, outcome := range client.Stream(ctx, c, numbers(count)) {
			outcomes++
			if errors.Is(outcome.Err, context.DeadlineExceeded) {
				ended++
			}
		}
		if outcomes != 11 || ended != 10 {
			t.Errorf("%d outcomes, %d of them with the error of the context; want 11 and 10", outcomes, ended)
		}
		_ = c.Close()
		f.peers.Wait()
	})
}

func TestAStreamThatWaitsForAConnectionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := inMemory((*peer).echo)
		f.refuse.Store(1000)
		c := f.client(t, client.Config{ConnectWait: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		outcomes := 0
		for _, outcome := range client.Stream(ctx, c, numbers(5)) {
			outcomes++
			if !errors.Is(outcome.Err, context.DeadlineExceeded) || task.CodeOf(outcome.Err) == task.UnknownOutcome {
				t.Errorf("got %v", outcome.Err)
			}
		}
		if outcomes != 5 {
			t.Errorf("%d outcomes", outcomes)
		}
		_ = c.Close()
	})
}

func TestClosingTheClientEndsItsStreams(t *testing.T) {
	t.Parallel()
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	done, closed := 0, 0
	for i, outcome := range client.Stream(t.Context(), c, numbers(10_000)) {
		switch {
		case outcome.Err == nil:
			done++
		case errors.Is(outcome.Err, client.ErrClosed):
			closed++
		default:
			t.Errorf("task %d: %v", i, outcome.Err)
		}
		if done == 1000 {
			_ = c.Close()
		}
	}
	if done+closed != 10_000 || closed == 0 {
		t.Errorf("%d done, %d closed", done, closed)
	}
}

func TestAStreamNeedsConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a long stream")
	}
	c := overTCP(t, (*peer).echo).client(t, client.Config{})
	var before, after runtime.MemStats
	count, largest := 0, uint64(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, outcome := range client.Stream(t.Context(), c, numbers(100_000)) {
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
		if count++; count%20_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			largest = max(largest, after.HeapAlloc)
		}
	}
	if grown := int64(largest) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
