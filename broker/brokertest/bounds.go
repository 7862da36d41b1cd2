package brokertest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func bounds() sentences {
	return sentences{
		"a taker that is new is behind": func(f *fixture) {
			f.consume(f, usual()).Close()
			f.consume(f.others[0], usual())
		},
		"a taker is told once that it is behind": func(f *fixture) {
			f.wantQuietly(f.consume(f, usual()))
		},
		"a lane has a bound, and what it has no room for is counted": func(f *fixture) {
			if f.lacks.Bounds {
				return
			}
			f.publish(laneBound + 12)
			if s := f.Stats(); s.Dropped != 12 || s.Published != laneBound+12 {
				f.Errorf("%+v", s)
			}
		},
		"a lane that had no room gives the oldest ids, takes no new ones, and then says that it is behind": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(laneBound + 1)[:laneBound]
			got := f.take(taker, laneBound-1)
			f.publish(3)
			if f.lacks.Behind {
				return
			}
			f.wantIDs(append(got, f.wantBehind(taker)...), want)
			f.wantQuietly(taker)
			want = f.publish(3)
			f.wantIDs(f.take(taker, 3), want)
			f.wantQuietly(taker)
		},
		"all who work the queue are told": func(f *fixture) {
			if f.lacks.Behind {
				return
			}
			one, two := f.consume(f, usual()), f.consume(f.others[0], usual())
			apart := f.consume(f.others[1], broker.Interest{Queues: []string{"apart"}, Actions: []string{"upper"}})
			f.publish(laneBound + 1)
			f.wantBehind(one)
			f.wantIDs(f.wantBehind(two), nil)
			f.wantQuietly(apart)
		},
		"who waits is told as well": func(f *fixture) {
			if f.lacks.Behind {
				return
			}
			taker := f.consume(f, usual())
			waits := f.later(taking(f.consume(f.others[0], broker.Interest{Actions: []string{"echo"}})))
			f.publish(laneBound + 1)
			f.settle()
			f.wantBehind(taker)
			if err := <-waits; err != nil {
				f.Error(err)
			}
		},
		"a full lane leaves others alone": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(laneBound+1, inQueue("flood"))
			want := append(f.publish(2), f.publish(2, inQueue("flood"), withPriority(task.Low))...)
			f.wantSame(f.takeWant(taker, 2, broker.Want{Limit: 9, Queues: map[string]int{"default": 9}}), want[:2])
		},
	}
}

// wantQuietly wants a taker to hear nothing for a while, not even that it is behind.
func (f *fixture) wantQuietly(taker broker.Taker) {
	f.Helper()
	ctx, cancel := f.brief()
	defer cancel()
	if taken, err := taker.Take(ctx, broker.Want{Limit: 10}); err == nil {
		f.Errorf("%+v came, want nothing", taken)
	}
}

func total() sentences {
	// full fills the broker to its bound with ids that nobody wants.
	full := func(f *fixture) {
		for i := 0; i < totalBound; i += laneBound {
			f.publish(min(laneBound, totalBound-i), inQueue(fmt.Sprint("full-", i)), withAction("nobody's"))
		}
	}
	tests := sentences{
		"all lanes have a bound together": func(f *fixture) {
			full(f)
			f.publish(5)
			if s := f.Stats(); s.Dropped != 5 || s.Held != totalBound {
				f.Errorf("%+v", s)
			}
		},
		"when all is full, who works the queue is told at once": func(f *fixture) {
			taker := f.consume(f, usual())
			full(f)
			f.wantQuietly(taker)
			f.publish(1)
			f.wantIDs(f.wantBehind(taker), nil)
		},
		"names of queues take no room of their own": func(f *fixture) {
			full(f)
			for i := range 1000 {
				f.publish(1, inQueue(fmt.Sprint("q", i)))
			}
			if s := f.Stats(); s.Held != totalBound {
				f.Errorf("%+v", s)
			}
		},
		"room that is made is used": func(f *fixture) {
			full(f)
			nobody := f.consumeLate(broker.Interest{Actions: []string{"nobody's"}})
			f.take(nobody, 2)
			taker := f.consume(f, usual())
			want := f.publish(2)
			f.wantIDs(f.take(taker, 2), want)
		},
	}
	for sentence, test := range tests {
		tests[sentence] = func(f *fixture) {
			if !f.lacks.Total {
				test(f)
			}
		}
	}
	return tests
}

// testMemory publishes ten times more ids than the default bounds hold, cut out of large
// strings, and looks at the heap.
func testMemory(t *testing.T, b broker.Broker) {
	const (
		ids, batch = 1_000_000, 1_000
		most       = 32 << 20
	)
	before := heap()
	hints, padding := make([]broker.Hint, batch), strings.Repeat(" ", 500)
	for first := 0; first < ids; first += batch {
		for i := range hints {
			line := fmt.Sprintf("01JE%022d", first+i) + padding
			hints[i] = broker.Hint{ID: line[:26], Queue: fmt.Sprint("q", i%50), Priority: task.Priority(i % 3), Action: "upper"}
		}
		if err := b.Publish(t.Context(), hints); err != nil {
			t.Fatal(err)
		}
	}
	clear(hints)
	if after := heap(); after > before+most {
		t.Errorf("%d ids took %d bytes, at most %d are allowed", ids, after-before, most)
	}
	if s := b.Stats(); s.Held == 0 || int64(s.Held)+s.Dropped != ids {
		t.Errorf("%+v", s)
	}
}

// heap gives the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
