package brokertest

import (
	"context"
	"errors"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// waitIdle waits until all started goroutines block.
func (f *fixture) waitIdle() {
	if f.lacks.Bubble {
		<-time.After(quiet)
		return
	}
	synctest.Wait()
}

// quietContext returns a context that ends after quiet, a while in which nothing should happen.
func (f *fixture) quietContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.Context(), quiet)
}

// async makes a call in a goroutine, and sends its error to the returned channel.
func (f *fixture) async(call func(ctx context.Context) error) <-chan error {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- call(ctx)
	}()
	f.waitIdle()
	return ended
}

func takeOne(taker broker.Taker) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := taker.Take(ctx, broker.Want{Limit: 1})
		return err
	}
}

func receiveOne(listener broker.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := listener.Next(ctx)
		return err
	}
}

func waiting() cases {
	return cases{
		"an id wakes a waiting taker": func(f *fixture) {
			taker := f.consume(f.others[0], usual())
			got := make(chan []string, 1)
			go func() { got <- f.take(taker, 1) }()
			f.waitIdle()
			want := f.publish(1)
			f.wantIDs(<-got, want)
		},
		"every waiting taker gets its id": func(f *fixture) {
			got := make(chan []string, 3)
			for _, node := range append(f.others, f.Broker) {
				taker := f.consume(node, usual())
				go func() { got <- f.take(taker, 1) }()
			}
			f.waitIdle()
			want := f.publish(3)
			f.wantSame(append(append(<-got, <-got...), <-got...), want)
		},
		"a taker that cannot run an id leaves it to one that can": func(f *fixture) {
			echoes, uppers := f.consume(f, broker.Interest{Actions: []string{"echo"}}), f.consume(f.others[0], usual())
			idle := f.async(takeOne(echoes))
			got := make(chan []string, 1)
			go func() { got <- f.take(uppers, 1) }()
			f.waitIdle()
			want := f.publish(1)
			f.wantIDs(<-got, want)
			f.publish(1, withAction("echo"))
			if err := <-idle; err != nil {
				f.Error(err)
			}
		},
		"a call ends with its context and loses nothing": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			ctx, cancel := f.quietContext()
			defer cancel()
			if err := takeOne(taker)(ctx); !errors.Is(err, context.DeadlineExceeded) {
				f.Errorf("take: %v", err)
			}
			if err := receiveOne(listener)(ctx); !errors.Is(err, context.DeadlineExceeded) {
				f.Errorf("next: %v", err)
			}
			want := f.publish(1)
			f.Broadcast(changes("a", 1, 1))
			f.wantIDs(f.take(taker, 1), want)
			f.wantEvents(f.receive(listener, 1).Events, changes("a", 1, 1))
		},
		"a call with an ended context returns nothing": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			want := f.publish(1)
			f.Broadcast(changes("a", 1, 1))
			ctx, cancel := context.WithCancel(f.Context())
			cancel()
			if err := takeOne(taker)(ctx); !errors.Is(err, context.Canceled) {
				f.Errorf("take: %v", err)
			}
			if err := receiveOne(listener)(ctx); !errors.Is(err, context.Canceled) {
				f.Errorf("next: %v", err)
			}
			f.wantCode(f.Publish(ctx, []broker.Hint{{ID: "x", Queue: "default", Action: "upper"}}), task.Unavailable)
			f.wantIDs(f.take(taker, 1), want)
			f.wantNoIDs(taker, broker.Want{Limit: 1})
			f.wantEvents(f.receive(listener, 1).Events, changes("a", 1, 1))
		},
	}
}

func acknowledgement() cases {
	return cases{
		"acknowledged ids do not come again": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(5)
			f.take(taker, 5)
			taker.Ack()
			taker.Close()
			f.wantNoIDs(f.consume(f.others[0], usual()), broker.Want{Limit: 9})
		},
		"ids that a closed taker did not take go to others": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(5)
			f.take(taker, 2)
			taker.Close()
			f.wantSame(f.take(f.consumeNow(usual()), 3), want[2:])
		},
		"ids that a closed taker took and did not acknowledge go to others": func(f *fixture) {
			if f.lacks.Redelivery {
				return
			}
			taker := f.consume(f, usual())
			want := f.publish(5)
			ctx, cancel := context.WithTimeout(f.Context(), patience)
			defer cancel()
			if _, err := taker.Take(ctx, broker.Want{Limit: 2}); err != nil {
				f.Fatal(err)
			}
			taker.Close()
			f.wantSame(f.take(f.consumeNow(usual()), 5), want)
		},
	}
}
