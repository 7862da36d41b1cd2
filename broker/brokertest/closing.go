package brokertest

import (
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func closing() cases {
	return cases{
		"a closed broker refuses every call": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			if err := f.Close(); err != nil {
				f.Error(err)
			}
			f.wantCode(f.Publish(f.Context(), []broker.Hint{{ID: "x", Queue: "default", Action: "upper"}}), task.Unavailable)
			f.wantCode(takeOne(taker)(f.Context()), task.Unavailable)
			f.wantCode(receiveOne(listener)(f.Context()), task.Unavailable)
			_, err := f.Consume(usual())
			f.wantCode(err, task.Unavailable)
			_, err = f.Listen()
			f.wantCode(err, task.Unavailable)
			f.Broadcast(changes("a", 1, 1))
			taker.Ack()
			f.Stats()
		},
		"closing the broker ends waiting calls": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			take, receive := f.async(takeOne(taker)), f.async(receiveOne(listener))
			f.Close()
			f.wantCode(<-take, task.Unavailable)
			f.wantCode(<-receive, task.Unavailable)
		},
		"closing twice is no error": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			for range 2 {
				for _, err := range []error{taker.Close(), listener.Close(), f.Close()} {
					if err != nil {
						f.Error(err)
					}
				}
			}
		},
	}
}

func closingEnds() cases {
	return cases{
		"closing a taker ends only its own take": func(f *fixture) {
			one, two := f.consume(f, usual()), f.consume(f, usual())
			take, other := f.async(takeOne(one)), f.async(takeOne(two))
			one.Close()
			f.wantCode(<-take, task.Unavailable)
			f.wantCode(takeOne(one)(f.Context()), task.Unavailable)
			f.publish(1)
			if err := <-other; err != nil {
				f.Error(err)
			}
		},
		"closing a listener ends only its own next": func(f *fixture) {
			one, two := f.listen(f), f.listen(f)
			next, other := f.async(receiveOne(one)), f.async(receiveOne(two))
			one.Close()
			f.wantCode(<-next, task.Unavailable)
			f.wantCode(receiveOne(one)(f.Context()), task.Unavailable)
			f.Broadcast(changes("a", 1, 1))
			if err := <-other; err != nil {
				f.Error(err)
			}
		},
	}
}
