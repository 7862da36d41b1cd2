package brokertest

import (
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// dealt publishes lanes that are full, and counts which of them the first n ids are of.
func (f *fixture) dealt(n, atOnce int, lanes map[string][]edit) map[string]int {
	f.Helper()
	name := map[string]string{}
	for lane, edits := range lanes {
		for _, id := range f.publish(laneBound, edits...) {
			name[id] = lane
		}
	}
	taker := f.consumeLate(usual())
	count := map[string]int{}
	for range n / atOnce {
		for _, id := range f.take(taker, atOnce) {
			count[name[id]]++
		}
	}
	return count
}

// about wants a count, unless the driver chooses among what happens to have arrived.
func (f *fixture) about(what string, got, want int) {
	f.Helper()
	if got != want && !f.lacks.Turns {
		f.Errorf("%d ids of %s, want %d", got, what, want)
	}
}

func priorities() sentences {
	three := map[string][]edit{
		"high": {withPriority(task.High)}, "normal": {withPriority(task.Normal)}, "low": {withPriority(task.Low)},
	}
	tests := sentences{
		"a priority without ids wastes no turn": func(f *fixture) {
			count := f.dealt(26, 2, map[string][]edit{"low": {withPriority(task.Low)}})
			f.about("low", count["low"], 26)
		},
		"high goes before low when normal has none": func(f *fixture) {
			count := f.dealt(26, 2, map[string][]edit{"high": three["high"], "low": three["low"]})
			f.about("high", count["high"], 24)
			f.about("low", count["low"], 2)
		},
		"a low id waits for no more than thirteen others": func(f *fixture) {
			low := f.publish(1, withPriority(task.Low))
			f.publish(laneBound, withPriority(task.High))
			taker := f.consumeLate(usual())
			for n := range 14 {
				if f.take(taker, 1)[0] == low[0] {
					return
				}
				if n == 13 && !f.lacks.Turns {
					f.Error("it was not among the first fourteen")
				}
			}
		},
	}
	for name, atOnce := range map[string]int{"one by one": 1, "all at once": 26} {
		tests["of thirteen ids eight are high, four normal and one low, "+name] = func(f *fixture) {
			count := f.dealt(26, atOnce, three)
			f.about("high", count["high"], 16)
			f.about("normal", count["normal"], 8)
			f.about("low", count["low"], 2)
		}
	}
	return tests
}

func turns() sentences {
	tests := sentences{
		"a queue that is flooded does not hold up another": func(f *fixture) {
			f.publish(laneBound, inQueue("flood"))
			want := f.publish(1, inQueue("drop"))
			taker := f.consumeLate(usual())
			got := f.take(taker, 2)
			if !f.lacks.Turns && got[0] != want[0] && got[1] != want[0] {
				f.Errorf("the first two are %v, and %s is not among them", got, want[0])
			}
		},
		"a queue that is emptied and filled again does not go before those that wait": func(f *fixture) {
			f.publish(laneBound, inQueue("long"))
			taker := f.consumeLate(usual())
			name := map[string]string{}
			count := map[string]int{}
			for range 20 {
				name[f.publish(1, inQueue("short"))[0]] = "short"
				count[name[f.take(taker, 1)[0]]]++
			}
			f.about("short", count["short"], 10)
		},
		"a queue of which enough was taken leaves its turns to others": func(f *fixture) {
			f.publish(laneBound, inQueue("a"))
			f.publish(laneBound, inQueue("b"))
			taker := f.consumeLate(usual())
			f.takeWant(taker, 10, broker.Want{Limit: 10, Queues: map[string]int{"a": 1, "b": 9}})
		},
	}
	for name, atOnce := range map[string]int{"one by one": 1, "all at once": 30} {
		tests["queues take turns, "+name] = func(f *fixture) {
			count := f.dealt(30, atOnce, map[string][]edit{"a": {inQueue("a")}, "b": {inQueue("b")}, "c": {inQueue("c")}})
			for _, queue := range []string{"a", "b", "c"} {
				f.about(queue, count[queue], 10)
			}
		}
	}
	return tests
}
