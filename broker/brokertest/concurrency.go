package brokertest

import (
	"sync"

	"github.com/posta-tasks/posta/broker"
)

// senders is the number of goroutines that send, and batches is how often each of them sends.
const senders, batches = 4, 25

// worker takes ids until its broker is closed.
func (f *fixture) worker(taker broker.Taker, got chan<- string) {
	for {
		taken, err := taker.Take(f.Context(), broker.Want{Limit: 4})
		if err != nil {
			return
		}
		taker.Ack()
		for _, id := range taken.IDs {
			got <- id
		}
	}
}

func concurrency() cases {
	return cases{
		"each id goes to one taker while many publish and take": func(f *fixture) {
			var mu sync.Mutex
			var want []string
			got := make(chan string)
			for _, node := range append(f.others, f.Broker) {
				go f.worker(f.consume(node, usual()), got)
			}
			// At most laneBound ids wait at a time, so that none is dropped.
			room := make(chan struct{}, laneBound)
			var all sync.WaitGroup
			for range senders {
				all.Go(func() {
					for range batches {
						room <- struct{}{}
						mu.Lock()
						want = append(want, f.publish(1)...)
						mu.Unlock()
					}
				})
			}
			var ids []string
			for range senders * batches {
				ids = append(ids, <-got)
				<-room
			}
			all.Wait()
			f.wantSame(ids, want)
			f.Close()
			for _, node := range f.others {
				node.Close()
			}
		},
		"events of several senders arrive in the order of each sender": func(f *fixture) {
			listener := f.listen(f)
			room := make(chan struct{}, eventBound)
			var all sync.WaitGroup
			for n, node := range append(f.others, f.Broker) {
				all.Go(func() {
					for i := range batches {
						room <- struct{}{}
						node.Broadcast(changes(string(rune('a'+n)), i, 1))
					}
				})
			}
			next := map[string]int{}
			for range 3 * batches {
				for _, event := range f.receive(listener, 1).Events {
					if event.Entry.Seq != next[event.Queue] {
						f.Fatalf("event %d of %s arrived, want %d", event.Entry.Seq, event.Queue, next[event.Queue])
					}
					next[event.Queue]++
					<-room
				}
				if next["a"]+next["b"]+next["c"] == 3*batches {
					break
				}
			}
			all.Wait()
		},
	}
}

func churn() cases {
	return cases{
		"takers and listeners may be opened and closed while others send": func(f *fixture) {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range batches {
						taker, listener := f.consumeNow(usual()), f.listen(f)
						f.Broadcast(changes("a", 1, 2))
						f.Stats()
						taker.Close()
						listener.Close()
					}
				})
			}
			all.Wait()
			taker := f.consume(f, usual())
			want := f.publish(1)
			f.wantIDs(f.take(taker, 1), want)
		},
	}
}
