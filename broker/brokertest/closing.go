package brokertest

import (
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func closing() sentences {
	return sentences{
		"a closed broker refuses all": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			if err := f.Close(); err != nil {
				f.Error(err)
			}
			f.wantCode(f.Publish(f.Context(), []broker.Hint{{ID: "x", Queue: "default", Action: "upper"}}), task.Unavailable)
			f.wantCode(taking(taker)(f.Context()), task.Unavailable)
			f.wantCode(hearing(listener)(f.Context()), task.Unavailable)
			_, err := f.Consume(usual())
			f.wantCode(err, task.Unavailable)
			_, err = f.Listen()
			f.wantCode(err, task.Unavailable)
			f.Broadcast(news("a", 1, 1))
			taker.Ack()
			f.Stats()
		},
		"closing ends who waits": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			take, hear := f.later(taking(taker)), f.later(hearing(listener))
			f.Close()
			f.wantCode(<-take, task.Unavailable)
			f.wantCode(<-hear, task.Unavailable)
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

func closingEnds() sentences {
	return sentences{
		"closing a taker ends its take, and no other": func(f *fixture) {
			one, two := f.consume(f, usual()), f.consume(f, usual())
			take, other := f.later(taking(one)), f.later(taking(two))
			one.Close()
			f.wantCode(<-take, task.Unavailable)
			f.wantCode(taking(one)(f.Context()), task.Unavailable)
			f.publish(1)
			if err := <-other; err != nil {
				f.Error(err)
			}
		},
		"closing a listener ends its next, and no other": func(f *fixture) {
			one, two := f.listen(f), f.listen(f)
			next, other := f.later(hearing(one)), f.later(hearing(two))
			one.Close()
			f.wantCode(<-next, task.Unavailable)
			f.wantCode(hearing(one)(f.Context()), task.Unavailable)
			f.Broadcast(news("a", 1, 1))
			if err := <-other; err != nil {
				f.Error(err)
			}
		},
	}
}
