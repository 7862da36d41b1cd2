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

func events() sentences {
	return sentences{
		"every listener of every node hears an event, the sender's own included": func(f *fixture) {
			all := []broker.Listener{f.listen(f), f.listen(f), f.listen(f.others[0]), f.listen(f.others[1])}
			f.Broadcast(news("a", 1, 3))
			for _, l := range all {
				f.wantEvents(f.hear(l, 3).Events, news("a", 1, 3))
			}
		},
		"an event comes as it was sent": func(f *fixture) {
			l := f.listen(f.others[0])
			sent := append(news("a", 1, 1),
				broker.Event{Kind: broker.Progressed, Task: "t", Queue: "q", Attempt: 2, Progress: task.Progress{Percent: 12.5, Message: "½\n"}},
				broker.Event{Kind: broker.Cancelling, Task: "t", Queue: "q", Attempt: 2},
				broker.Event{Kind: broker.Paused, Queue: "q"}, broker.Event{Kind: broker.Resumed, Queue: "q"})
			f.Broadcast(sent)
			f.wantEvents(f.hear(l, len(sent)).Events, sent)
		},
		"events come in the order of their sender": func(f *fixture) {
			l := f.listen(f.others[0])
			for i := range 6 {
				f.Broadcast(news("a", 3*i, 3))
			}
			f.wantEvents(f.hear(l, 18).Events, news("a", 0, 18))
		},
		"the caller may use its slice again, and each listener has its own": func(f *fixture) {
			one, two := f.listen(f), f.listen(f)
			sent := news("a", 1, 2)
			f.Broadcast(sent)
			sent[0].Task = "x"
			heard := f.hear(one, 2).Events
			f.wantEvents(heard, news("a", 1, 2))
			heard[1].Task = "x"
			f.wantEvents(f.hear(two, 2).Events, news("a", 1, 2))
		},
		"what was heard is the listener's own": func(f *fixture) {
			l := f.listen(f)
			f.Broadcast(news("a", 1, 1))
			first, err := l.Next(f.Context())
			if err != nil {
				f.Fatal(err)
			}
			f.Broadcast(news("b", 1, 1))
			f.hear(l, 1)
			f.wantEvents(first.Events, news("a", 1, 1))
		},
		"nobody has to listen": func(f *fixture) {
			f.Broadcast(news("a", 1, 3))
			f.Broadcast(nil)
			if s := f.Stats(); s.Sent != 3 || s.Missed != 0 {
				f.Errorf("%+v", s)
			}
		},
		"a listener waits for the next event": func(f *fixture) {
			l := f.listen(f.others[0])
			heard := make(chan broker.Heard, 1)
			go func() { heard <- f.hear(l, 1) }()
			f.settle()
			f.Broadcast(news("a", 1, 1))
			f.wantEvents((<-heard).Events, news("a", 1, 1))
		},
	}
}

func earlierEvents() sentences {
	return sentences{
		"what was sent before is not heard": func(f *fixture) {
			if f.lacks.Flight {
				return
			}
			f.Broadcast(news("a", 1, 3))
			l := f.listen(f)
			f.Broadcast(news("a", 4, 1))
			f.wantEvents(f.hear(l, 1).Events, news("a", 4, 1))
		},
	}
}

func slowListeners() sentences {
	const lost = 13
	flood := func(f *fixture, n int) {
		for i := range n {
			f.Broadcast(news("a", i, 1))
		}
	}
	return sentences{
		"a slow listener loses events, knows how many, and hears the first ones": func(f *fixture) {
			l, other := f.listen(f), f.listen(f)
			flood(f, eventBound+lost)
			others := f.hear(other, eventBound+lost) // then all have been offered to both
			heard := f.hear(l, eventBound+lost)
			f.wantEvents(heard.Events, news("a", 0, eventBound))
			if heard.Missed != lost && !(f.lacks.Missed && heard.Missed > 0) {
				f.Errorf("%d events were missed, want %d", heard.Missed, lost)
			}
			if s := f.Stats(); s.Missed != heard.Missed+others.Missed {
				f.Errorf("%+v", s)
			}
		},
		"one that catches up hears all again": func(f *fixture) {
			l := f.listen(f)
			flood(f, eventBound+lost)
			f.hear(l, eventBound+lost)
			f.Broadcast(news("b", 0, 3))
			heard := f.hear(l, 3)
			f.wantEvents(heard.Events, news("b", 0, 3))
			if heard.Missed != 0 {
				f.Errorf("%d events were missed", heard.Missed)
			}
		},
		"a slow listener slows nobody": func(f *fixture) {
			f.listen(f)
			quick := f.listen(f.others[0])
			var got []broker.Event
			for i := range 20 {
				f.Broadcast(news("a", eventBound*i, eventBound))
				got = append(got, f.hear(quick, eventBound).Events...)
			}
			f.wantEvents(got, news("a", 0, 20*eventBound))
		},
		"a batch larger than the bound is cut": func(f *fixture) {
			l := f.listen(f)
			f.Broadcast(news("a", 0, eventBound+lost))
			heard := f.hear(l, eventBound+1)
			if len(heard.Events) != eventBound || heard.Missed == 0 {
				f.Errorf("%d events, %d missed", len(heard.Events), heard.Missed)
			}
		},
		"a closed listener loses nothing any more": func(f *fixture) {
			l := f.listen(f)
			if err := l.Close(); err != nil {
				f.Error(err)
			}
			flood(f, 10*eventBound)
			if s := f.Stats(); s.Missed != 0 {
				f.Errorf("%+v", s)
			}
		},
		"events and ids have their own room": func(f *fixture) {
			f.listen(f)
			flood(f, 10*eventBound)
			taker := f.consume(f, usual())
			want := f.publish(laneBound)
			f.wantIDs(f.take(taker, laneBound), want)
		},
	}
}
