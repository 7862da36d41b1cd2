package brokertest

import (
	"reflect"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func (f *fixture) wantEvents(got, want []broker.Event) {
	f.Helper()
	if !reflect.DeepEqual(got, want) {
		f.Errorf("events %+v, want %+v", got, want)
	}
}

func events() cases {
	return cases{
		"every listener of every node receives an event, also on the sender's node": func(f *fixture) {
			all := []broker.Listener{f.listen(f), f.listen(f), f.listen(f.others[0]), f.listen(f.others[1])}
			f.Broadcast(changes("a", 1, 3))
			for _, l := range all {
				f.wantEvents(f.receive(l, 3).Events, changes("a", 1, 3))
			}
		},
		"an event arrives unchanged": func(f *fixture) {
			l := f.listen(f.others[0])
			sent := append(changes("a", 1, 1),
				broker.Event{Kind: broker.Progressed, Task: "t", Queue: "q", Attempt: 2, Progress: task.Progress{Percent: 12.5, Message: "½\n"}},
				broker.Event{Kind: broker.Cancelling, Task: "t", Queue: "q", Attempt: 2},
				broker.Event{Kind: broker.Paused, Queue: "q"}, broker.Event{Kind: broker.Resumed, Queue: "q"},
				broker.Event{Kind: broker.Waiting, Task: "t", Queue: "q"})
			f.Broadcast(sent)
			f.wantEvents(f.receive(l, len(sent)).Events, sent)
		},
		"events of one sender arrive in order": func(f *fixture) {
			l := f.listen(f.others[0])
			for i := range 6 {
				f.Broadcast(changes("a", 3*i, 3))
			}
			f.wantEvents(f.receive(l, 18).Events, changes("a", 0, 18))
		},
		"the caller may reuse its slice, and each listener has its own copy": func(f *fixture) {
			one, two := f.listen(f), f.listen(f)
			sent := changes("a", 1, 2)
			f.Broadcast(sent)
			sent[0].Task = "x"
			received := f.receive(one, 2).Events
			f.wantEvents(received, changes("a", 1, 2))
			received[1].Task = "x"
			f.wantEvents(f.receive(two, 2).Events, changes("a", 1, 2))
		},
		"received events do not change later": func(f *fixture) {
			l := f.listen(f)
			f.Broadcast(changes("a", 1, 1))
			first, err := l.Next(f.Context())
			if err != nil {
				f.Fatal(err)
			}
			f.Broadcast(changes("b", 1, 1))
			f.receive(l, 1)
			f.wantEvents(first.Events, changes("a", 1, 1))
		},
		"events may be sent without a listener": func(f *fixture) {
			f.Broadcast(changes("a", 1, 3))
			f.Broadcast(nil)
			if s := f.Stats(); s.Sent != 3 || s.Missed != 0 {
				f.Errorf("%+v", s)
			}
		},
		"a listener waits for the next event": func(f *fixture) {
			l := f.listen(f.others[0])
			received := make(chan broker.Received, 1)
			go func() { received <- f.receive(l, 1) }()
			f.waitIdle()
			f.Broadcast(changes("a", 1, 1))
			f.wantEvents((<-received).Events, changes("a", 1, 1))
		},
	}
}

func earlierEvents() cases {
	return cases{
		"a listener does not receive earlier events": func(f *fixture) {
			if f.lacks.Flight {
				return
			}
			f.Broadcast(changes("a", 1, 3))
			l := f.listen(f)
			f.Broadcast(changes("a", 4, 1))
			f.wantEvents(f.receive(l, 1).Events, changes("a", 4, 1))
		},
	}
}

func slowListeners() cases {
	const lost = 13
	flood := func(f *fixture, n int) {
		for i := range n {
			f.Broadcast(changes("a", i, 1))
		}
	}
	return cases{
		"a slow listener receives the first events and the number of lost ones": func(f *fixture) {
			l, other := f.listen(f), f.listen(f)
			flood(f, eventBound+lost)
			others := f.receive(other, eventBound+lost) // now both listeners have been offered all events
			received := f.receive(l, eventBound+lost)
			f.wantEvents(received.Events, changes("a", 0, eventBound))
			if received.Missed != lost && !(f.lacks.Missed && received.Missed > 0) {
				f.Errorf("%d events were missed, want %d", received.Missed, lost)
			}
			if s := f.Stats(); s.Missed != received.Missed+others.Missed {
				f.Errorf("%+v", s)
			}
		},
		"a listener that catches up receives all events again": func(f *fixture) {
			l := f.listen(f)
			flood(f, eventBound+lost)
			f.receive(l, eventBound+lost)
			f.Broadcast(changes("b", 0, 3))
			received := f.receive(l, 3)
			f.wantEvents(received.Events, changes("b", 0, 3))
			if received.Missed != 0 {
				f.Errorf("%d events were missed, want 0", received.Missed)
			}
		},
		"a slow listener does not slow others": func(f *fixture) {
			f.listen(f)
			quick := f.listen(f.others[0])
			var got []broker.Event
			for i := range 20 {
				f.Broadcast(changes("a", eventBound*i, eventBound))
				got = append(got, f.receive(quick, eventBound).Events...)
			}
			f.wantEvents(got, changes("a", 0, 20*eventBound))
		},
		"events beyond the bound of a listener are lost": func(f *fixture) {
			l := f.listen(f)
			f.Broadcast(changes("a", 0, eventBound+lost))
			received := f.receive(l, eventBound+1)
			if len(received.Events) != eventBound || received.Missed == 0 {
				f.Errorf("%d events, %d missed", len(received.Events), received.Missed)
			}
		},
		"a closed listener loses no events": func(f *fixture) {
			l := f.listen(f)
			if err := l.Close(); err != nil {
				f.Error(err)
			}
			flood(f, 10*eventBound)
			if s := f.Stats(); s.Missed != 0 {
				f.Errorf("%+v", s)
			}
		},
		"unread events take no space from ids": func(f *fixture) {
			f.listen(f)
			flood(f, 10*eventBound)
			taker := f.consume(f, usual())
			want := f.publish(laneBound)
			f.wantIDs(f.take(taker, laneBound), want)
		},
	}
}
