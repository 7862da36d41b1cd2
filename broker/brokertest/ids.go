package brokertest

import (
	"slices"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func ids() cases {
	return cases{
		"a published id is taken exactly once": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(5)
			f.wantIDs(f.take(taker, 5), want)
			f.wantNoIDs(taker, broker.Want{Limit: 10})
		},
		"a taker gets ids that were published before it existed": func(f *fixture) {
			want := f.publish(3)
			taker, err := f.Consume(usual())
			if err != nil {
				f.Fatal(err)
			}
			defer taker.Close()
			f.wantIDs(f.take(taker, 3), want)
		},
		"a node takes the ids that another node publishes": func(f *fixture) {
			taker := f.consume(f.others[0], usual())
			want := f.publish(3)
			f.wantIDs(f.take(taker, 3), want)
		},
		"a take returns at most its limit": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(10)
			got := f.take(taker, 4)
			got = append(got, f.take(taker, 1)...)
			f.wantIDs(append(got, f.take(taker, 5)...), want)
		},
		"a take returns fewer ids than its limit if there are no more": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(2)
			f.wantIDs(f.takeWant(taker, 2, broker.Want{Limit: 100}), want)
		},
		"an id may be published twice": func(f *fixture) {
			taker := f.consume(f, usual())
			hint := broker.Hint{ID: "01JE0000000000000000000001", Queue: "default", Action: "upper"}
			if err := f.Publish(f.Context(), []broker.Hint{hint, hint}); err != nil {
				f.Fatal(err)
			}
			f.wantIDs(f.take(taker, 1), []string{hint.ID})
		},
	}
}

func calls() cases {
	return cases{
		"an empty list may be published": func(f *fixture) {
			if err := f.Publish(f.Context(), nil); err != nil {
				f.Error(err)
			}
		},
		"the caller may reuse its slice": func(f *fixture) {
			taker := f.consume(f, usual())
			hints := []broker.Hint{{ID: "01JE0000000000000000000001", Queue: "default", Action: "upper"}}
			if err := f.Publish(f.Context(), hints); err != nil {
				f.Fatal(err)
			}
			hints[0] = broker.Hint{ID: "x", Queue: "x", Action: "x"}
			f.wantIDs(f.take(taker, 1), []string{"01JE0000000000000000000001"})
		},
		"an invalid limit or priority is an internal error": func(f *fixture) {
			taker := f.consume(f, usual())
			for _, limit := range []int{0, -1} {
				_, err := taker.Take(f.Context(), broker.Want{Limit: limit})
				f.wantCode(err, task.Internal)
			}
			f.wantCode(f.Publish(f.Context(), []broker.Hint{{ID: "x", Queue: "default", Priority: 3}}), task.Internal)
		},
		"published and taken ids are counted": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(5)
			f.take(taker, 3)
			if s := f.Stats(); s.Published != 5 || s.Taken != 3 || s.Dropped != 0 {
				f.Errorf("%+v", s)
			}
		},
	}
}

func lanes() cases {
	return cases{
		"ids of one queue and priority are first in, first out": func(f *fixture) {
			taker := f.consume(f, usual())
			var want []string
			for range 5 {
				want = append(want, f.publish(4)...)
			}
			var got []string
			for range 10 {
				got = append(got, f.take(taker, 2)...)
			}
			f.wantIDs(got, want)
		},
		"the order holds while ids are published and taken in turn": func(f *fixture) {
			taker := f.consume(f, usual())
			var want, got []string
			for i := range 40 {
				want = append(want, f.publish(i%5)...)
				got = append(got, f.take(taker, min(i%7, len(want)-len(got)))...)
			}
			f.wantIDs(append(got, f.take(taker, len(want)-len(got))...), want)
		},
		"a taker of one queue leaves the ids of others": func(f *fixture) {
			mail := f.publish(3, inQueue("mail"))
			other := f.publish(3)
			f.wantIDs(f.take(f.consumeNow(broker.Interest{Queues: []string{"mail"}, Actions: []string{"upper"}}), 3), mail)
			f.wantIDs(f.take(f.consumeNow(usual()), 3), other)
		},
	}
}

// consumeNow returns a taker whose first Take is still to come.
func (f *fixture) consumeNow(what broker.Interest) broker.Taker {
	f.Helper()
	taker, err := f.Consume(what)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { taker.Close() })
	return taker
}

func routing() cases {
	return cases{
		"a node gets only ids of its queues": func(f *fixture) {
			taker := f.consume(f, broker.Interest{Queues: []string{"mail", "sms"}, Actions: []string{"upper"}})
			f.publish(3)
			want := f.publish(2, inQueue("sms"))
			f.wantIDs(f.take(taker, 2), want)
			f.wantNoIDs(taker, broker.Want{Limit: 10})
		},
		"a node gets only ids of its actions": func(f *fixture) {
			taker := f.consume(f, broker.Interest{Actions: []string{"echo", "fib"}})
			f.publish(2)
			want := f.publish(2, withAction("fib"))
			f.publish(2)
			want = append(want, f.publish(2, withAction("echo"))...)
			f.wantOrder(f.take(taker, 4), want)
			f.wantNoIDs(taker, broker.Want{Limit: 10})
		},
		"ids that one node cannot run are left for another, in order": func(f *fixture) {
			echoes := f.consume(f, broker.Interest{Actions: []string{"echo"}})
			uppers := f.consume(f.others[0], usual())
			var upper, echo []string
			for range 5 {
				upper = append(upper, f.publish(2)...)
				echo = append(echo, f.publish(1, withAction("echo"))...)
			}
			f.wantIDs(f.take(echoes, 5), echo)
			f.wantIDs(f.take(uppers, 10), upper)
		},
		"a node without actions gets nothing": func(f *fixture) {
			taker := f.consume(f, broker.Interest{})
			f.publish(3)
			f.wantNoIDs(taker, broker.Want{Limit: 10})
		},
		"a node without queues gets nothing": func(f *fixture) {
			taker := f.consume(f, broker.Interest{Queues: []string{}, Actions: []string{"upper"}})
			f.publish(3)
			f.wantNoIDs(taker, broker.Want{Limit: 10})
		},
		"a node of all queues takes from a new queue": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(1, inQueue("new-today"))
			f.wantIDs(f.take(taker, 1), want)
		},
	}
}

// takeLimited takes n ids within the limits of want. The ids may arrive one after the other, and each call of Take has its
// own limits, so each id of limited that it takes lowers the limit of name, which is their queue or their action.
func (f *fixture) takeLimited(taker broker.Taker, limited []string, n int, want broker.Want, name string) (got []string) {
	f.Helper()
	for len(got) < n {
		want.Limit = n - len(got)
		for _, id := range f.takeSome(taker, want) {
			got = append(got, id)
			for _, limits := range []map[string]int{want.Queues, want.Actions} {
				if _, named := limits[name]; named && slices.Contains(limited, id) {
					limits[name]--
				}
			}
		}
	}
	return got
}

// wantOrder checks ids of several actions, and their order if the driver keeps it.
func (f *fixture) wantOrder(got, want []string) {
	f.Helper()
	if f.lacks.Actions {
		f.wantSame(got, want)
	} else {
		f.wantIDs(got, want)
	}
}

func wanted() cases {
	return cases{
		"a queue yields at most its limit and keeps the rest": func(f *fixture) {
			taker := f.consume(f, usual())
			mail, other := f.publish(5, inQueue("mail")), f.publish(5)
			got := f.takeLimited(taker, mail, 7, broker.Want{Queues: map[string]int{"mail": 2, "*": 9}}, "mail")
			f.wantSame(got, append(slices.Clone(mail[:2]), other...))
			f.wantNoIDs(taker, broker.Want{Limit: 7, Queues: map[string]int{"mail": 0, "*": 9}})
			f.wantIDs(f.take(taker, 3), mail[2:])
		},
		"the limit of * holds for each queue that is not named": func(f *fixture) {
			taker := f.consume(f, usual())
			for _, queue := range []string{"a", "b", "c"} {
				f.publish(3, inQueue(queue))
			}
			f.takeWant(taker, 3, broker.Want{Limit: 3, Queues: map[string]int{"*": 1}})
			f.wantNoIDs(taker, broker.Want{Limit: 9, Queues: map[string]int{"a": 0}})
		},
		"the limit of a queue covers all its priorities": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(3, withPriority(task.High))
			f.publish(3, withPriority(task.Low))
			taken, err := taker.Take(f.Context(), broker.Want{Limit: 9, Queues: map[string]int{"default": 4}})
			if err != nil || len(taken.IDs) > 4 {
				f.Errorf("%d ids, %v", len(taken.IDs), err)
			}
		},
		"a queue with limit 0 does not delay others": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(20, inQueue("paused"), withPriority(task.High))
			want := f.publish(2)
			f.wantIDs(f.takeWant(taker, 2, broker.Want{Limit: 9, Queues: map[string]int{"paused": 0, "*": 9}}), want)
		},
	}
}
