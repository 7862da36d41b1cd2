package brokertest

import (
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// countByLane fills lanes, takes n ids, and counts them by lane.
func (f *fixture) countByLane(n, atOnce int, lanes map[string][]edit) map[string]int {
	f.Helper()
	name := map[string]string{}
	for lane, edits := range lanes {
		for _, id := range f.publish(laneBound, edits...) {
			name[id] = lane
		}
	}
	taker := f.consumeNow(usual())
	count := map[string]int{}
	for range n / atOnce {
		for _, id := range f.take(taker, atOnce) {
			count[name[id]]++
		}
	}
	return count
}

// wantCount checks a count, unless the driver can only choose among the ids that have arrived.
func (f *fixture) wantCount(what string, got, want int) {
	f.Helper()
	if got != want && !f.lacks.Turns {
		f.Errorf("%d ids of %s, want %d", got, what, want)
	}
}

func priorities() cases {
	three := map[string][]edit{
		"high": {withPriority(task.High)}, "normal": {withPriority(task.Normal)}, "low": {withPriority(task.Low)},
	}
	tests := cases{
		"a priority without ids passes its turn to others": func(f *fixture) {
			count := f.countByLane(26, 2, map[string][]edit{"low": {withPriority(task.Low)}})
			f.wantCount("low", count["low"], 26)
		},
		"high takes the turns of normal when normal has no ids": func(f *fixture) {
			count := f.countByLane(26, 2, map[string][]edit{"high": three["high"], "low": three["low"]})
			f.wantCount("high", count["high"], 24)
			f.wantCount("low", count["low"], 2)
		},
		"a low id waits for no more than thirteen others": func(f *fixture) {
			low := f.publish(1, withPriority(task.Low))
			f.publish(laneBound, withPriority(task.High))
			taker := f.consumeNow(usual())
			for n := range 14 {
				if f.take(taker, 1)[0] == low[0] {
					return
				}
				if n == 13 && !f.lacks.Turns {
					f.Error("the low id is not among the first fourteen")
				}
			}
		},
	}
	for name, atOnce := range map[string]int{"one by one": 1, "all at once": 26} {
		tests["of thirteen ids eight are high, four normal and one low, "+name] = func(f *fixture) {
			count := f.countByLane(26, atOnce, three)
			f.wantCount("high", count["high"], 16)
			f.wantCount("normal", count["normal"], 8)
			f.wantCount("low", count["low"], 2)
		}
	}
	return tests
}

func turns() cases {
	tests := cases{
		"a flooded queue does not delay another": func(f *fixture) {
			f.publish(laneBound, inQueue("flood"))
			want := f.publish(1, inQueue("drop"))
			taker := f.consumeNow(usual())
			got := f.take(taker, 2)
			if !f.lacks.Turns && got[0] != want[0] && got[1] != want[0] {
				f.Errorf("the first two are %v, and %s is not among them", got, want[0])
			}
		},
		"a queue that was empty does not overtake queues that waited": func(f *fixture) {
			f.publish(laneBound, inQueue("long"))
			taker := f.consumeNow(usual())
			name := map[string]string{}
			count := map[string]int{}
			for range 20 {
				name[f.publish(1, inQueue("short"))[0]] = "short"
				count[name[f.take(taker, 1)[0]]]++
			}
			f.wantCount("short", count["short"], 10)
		},
		"an action at its limit keeps its ids, and passes its turns to others": func(f *fixture) {
			taker := f.consumeNow(broker.Interest{Actions: []string{"echo", "upper"}})
			few, many := f.publish(3, withAction("echo")), f.publish(3, withAction("upper"))
			f.wantSame(f.takeLimited(taker, few, 4, broker.Want{Actions: map[string]int{"echo": 1}}, "echo"), append([]string{few[0]}, many...))
			f.wantSame(f.takeWant(taker, 2, broker.Want{Limit: 10}), few[1:])
		},
		"a queue at its limit passes its turns to others": func(f *fixture) {
			f.publish(laneBound, inQueue("a"))
			f.publish(laneBound, inQueue("b"))
			taker := f.consumeNow(usual())
			f.takeWant(taker, 10, broker.Want{Limit: 10, Queues: map[string]int{"a": 1, "b": 9}})
		},
	}
	for name, atOnce := range map[string]int{"one by one": 1, "all at once": 30} {
		tests["queues take turns, "+name] = func(f *fixture) {
			count := f.countByLane(30, atOnce, map[string][]edit{"a": {inQueue("a")}, "b": {inQueue("b")}, "c": {inQueue("c")}})
			for _, queue := range []string{"a", "b", "c"} {
				f.wantCount(queue, count[queue], 10)
			}
		}
	}
	return tests
}
