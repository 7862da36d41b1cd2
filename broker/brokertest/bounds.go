package brokertest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func bounds() cases {
	return cases{
		"the first take of a taker returns behind": func(f *fixture) {
			f.consume(f, usual()).Close()
			f.consume(f.others[0], usual())
		},
		"the second take of a taker does not return behind": func(f *fixture) {
			f.wantNothing(f.consume(f, usual()))
		},
		"ids beyond the bound of a lane are dropped and counted": func(f *fixture) {
			if f.lacks.Bounds {
				return
			}
			f.publish(laneBound + 12)
			if s := f.Stats(); s.Dropped != 12 || s.Published != laneBound+12 {
				f.Errorf("%+v", s)
			}
		},
		"a full lane keeps the oldest ids, accepts none until it is empty, and then reports behind": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(laneBound + 1)[:laneBound]
			got := f.take(taker, laneBound-1)
			f.publish(3)
			if f.lacks.Behind {
				return
			}
			f.wantIDs(append(got, f.wantBehind(taker)...), want)
			f.wantNothing(taker)
			want = f.publish(3)
			f.wantIDs(f.take(taker, 3), want)
			f.wantNothing(taker)
		},
		"a full lane makes every taker of its queue behind": func(f *fixture) {
			if f.lacks.Behind {
				return
			}
			one, two := f.consume(f, usual()), f.consume(f.others[0], usual())
			apart := f.consume(f.others[1], broker.Interest{Queues: []string{"apart"}, Actions: []string{"upper"}})
			f.publish(laneBound + 1)
			f.wantBehind(one)
			f.wantIDs(f.wantBehind(two), nil)
			f.wantNothing(apart)
		},
		"a full lane wakes waiting takers": func(f *fixture) {
			if f.lacks.Behind {
				return
			}
			taker := f.consume(f, usual())
			waits := f.async(takeOne(f.consume(f.others[0], broker.Interest{Actions: []string{"echo"}})))
			f.publish(laneBound + 1)
			f.waitIdle()
			f.wantBehind(taker)
			if err := <-waits; err != nil {
				f.Error(err)
			}
		},
		"a full lane does not affect others": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(laneBound+1, inQueue("flood"))
			want := append(f.publish(2), f.publish(2, inQueue("flood"), withPriority(task.Low))...)
			f.wantSame(f.takeWant(taker, 2, broker.Want{Limit: 9, Queues: map[string]int{"default": 9}}), want[:2])
		},
	}
}

// wantNothing checks that Take returns nothing for a while, not even Behind.
func (f *fixture) wantNothing(taker broker.Taker) {
	f.Helper()
	ctx, cancel := f.quietContext()
	defer cancel()
	if taken, err := taker.Take(ctx, broker.Want{Limit: 10}); err == nil {
		f.Errorf("Take returned %+v, want nothing", taken)
	}
}

func total() cases {
	// fill fills the broker to its bound with ids that no taker wants.
	fill := func(f *fixture) {
		for i := 0; i < totalBound; i += laneBound {
			f.publish(min(laneBound, totalBound-i), inQueue(fmt.Sprint("full-", i)), withAction("nobody's"))
		}
	}
	tests := cases{
		"all lanes share one bound": func(f *fixture) {
			fill(f)
			f.publish(5)
			if s := f.Stats(); s.Dropped != 5 || s.Held != totalBound {
				f.Errorf("%+v", s)
			}
		},
		"an id that is dropped because the broker is full makes the takers of its queue behind": func(f *fixture) {
			taker := f.consume(f, usual())
			fill(f)
			f.wantNothing(taker)
			f.publish(1)
			f.wantIDs(f.wantBehind(taker), nil)
		},
		"a full broker does not grow with the number of queues": func(f *fixture) {
			fill(f)
			for i := range 1000 {
				f.publish(1, inQueue(fmt.Sprint("q", i)))
			}
			if s := f.Stats(); s.Held != totalBound {
				f.Errorf("%+v", s)
			}
		},
		"a broker that was full accepts ids again after some were taken": func(f *fixture) {
			fill(f)
			nobody := f.consumeNow(broker.Interest{Actions: []string{"nobody's"}})
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

// testMemory publishes ten times more ids than the default bounds allow and checks the size
// of the heap. The ids are substrings of large strings.
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
		t.Errorf("%d ids take %d bytes, want at most %d", ids, after-before, most)
	}
	if s := b.Stats(); s.Held == 0 || int64(s.Held)+s.Dropped != ids {
		t.Errorf("%+v", s)
	}
}

// heap returns the size of the live heap in bytes.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
