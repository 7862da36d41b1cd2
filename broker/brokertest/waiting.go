package brokertest

import (
	"context"
	"errors"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// settle lets goroutines that were started come to where they wait.
func (f *fixture) settle() {
	if f.lacks.Bubble {
		<-time.After(quiet)
		return
	}
	synctest.Wait()
}

// brief gives a context that ends after a while in which nothing should happen.
func (f *fixture) brief() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.Context(), quiet)
}

// later makes a call in a goroutine, and gives its error when it has one.
func (f *fixture) later(call func(ctx context.Context) error) <-chan error {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- call(ctx)
	}()
	f.settle()
	return ended
}

func taking(taker broker.Taker) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := taker.Take(ctx, broker.Want{Limit: 1})
		return err
	}
}

func hearing(listener broker.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := listener.Next(ctx)
		return err
	}
}

func waiting() sentences {
	return sentences{
		"who waits is woken by an id": func(f *fixture) {
			taker := f.consume(f.others[0], usual())
			got := make(chan []string, 1)
			go func() { got <- f.take(taker, 1) }()
			f.settle()
			want := f.publish(1)
			f.wantIDs(<-got, want)
		},
		"each of several who wait is woken": func(f *fixture) {
			got := make(chan []string, 3)
			for _, node := range append(f.others, f.Broker) {
				taker := f.consume(node, usual())
				go func() { got <- f.take(taker, 1) }()
			}
			f.settle()
			want := f.publish(3)
			f.wantSame(append(append(<-got, <-got...), <-got...), want)
		},
		"who cannot run an id does not keep it from who can": func(f *fixture) {
			echoes, uppers := f.consume(f, broker.Interest{Actions: []string{"echo"}}), f.consume(f.others[0], usual())
			idle := f.later(taking(echoes))
			got := make(chan []string, 1)
			go func() { got <- f.take(uppers, 1) }()
			f.settle()
			want := f.publish(1)
			f.wantIDs(<-got, want)
			f.publish(1, withAction("echo"))
			if err := <-idle; err != nil {
				f.Error(err)
			}
		},
		"waiting ends with the context, and nothing is lost": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			ctx, cancel := f.brief()
			defer cancel()
			if err := taking(taker)(ctx); !errors.Is(err, context.DeadlineExceeded) {
				f.Errorf("take: %v", err)
			}
			if err := hearing(listener)(ctx); !errors.Is(err, context.DeadlineExceeded) {
				f.Errorf("next: %v", err)
			}
			want := f.publish(1)
			f.Broadcast(news("a", 1, 1))
			f.wantIDs(f.take(taker, 1), want)
			f.wantEvents(f.hear(listener, 1).Events, news("a", 1, 1))
		},
		"a caller who has gone gets nothing": func(f *fixture) {
			taker, listener := f.consume(f, usual()), f.listen(f)
			want := f.publish(1)
			f.Broadcast(news("a", 1, 1))
			ctx, cancel := context.WithCancel(f.Context())
			cancel()
			if err := taking(taker)(ctx); !errors.Is(err, context.Canceled) {
				f.Errorf("take: %v", err)
			}
			if err := hearing(listener)(ctx); !errors.Is(err, context.Canceled) {
				f.Errorf("next: %v", err)
			}
			f.wantCode(f.Publish(ctx, []broker.Hint{{ID: "x", Queue: "default", Action: "upper"}}), task.Unavailable)
			f.wantIDs(f.take(taker, 1), want)
			f.wantQuiet(taker, broker.Want{Limit: 1})
			f.wantEvents(f.hear(listener, 1).Events, news("a", 1, 1))
		},
	}
}

func acknowledgement() sentences {
	return sentences{
		"what was acknowledged is not given again": func(f *fixture) {
			taker := f.consume(f, usual())
			f.publish(5)
			f.take(taker, 5)
			taker.Ack()
			taker.Close()
			f.wantQuiet(f.consume(f.others[0], usual()), broker.Want{Limit: 9})
		},
		"what was not taken when a taker closes is taken by others": func(f *fixture) {
			taker := f.consume(f, usual())
			want := f.publish(5)
			f.take(taker, 2)
			taker.Close()
			f.wantSame(f.take(f.consumeLate(usual()), 3), want[2:])
		},
		"what was taken and not acknowledged is given to others": func(f *fixture) {
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
			f.wantSame(f.take(f.consumeLate(usual()), 5), want)
		},
	}
}
