package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMemory is not parallel, since the suite begins by measuring the memory of the process.
func TestMemory(t *testing.T) {
	brokertest.Run(t, brokertest.Driver{
		Open: func(_ *testing.T, nodes int, bounds broker.Bounds) []broker.Broker {
			memory := broker.NewMemory(bounds)
			ends := make([]broker.Broker, nodes)
			for i := range ends {
				ends[i] = memory
			}
			return ends
		},
		Lacks: brokertest.Lacks{Redelivery: true},
	})
}

// TestATakerWaitsWithoutPolling lets a day pass. A timer in the broker would make the bubble
// run for each of its ticks, and a forgotten timer would keep the bubble from ending.
func TestATakerWaitsWithoutPolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := broker.NewMemory(broker.Bounds{})
		defer m.Close()
		taker, err := m.Consume(broker.Interest{Actions: []string{"upper"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := taker.Take(t.Context(), broker.Want{Limit: 1}); err != nil {
			t.Fatal(err)
		}
		began, taken := time.Now(), make(chan time.Time)
		go func() {
			taker.Take(t.Context(), broker.Want{Limit: 1})
			taken <- time.Now()
		}()
		<-time.After(24 * time.Hour)
		if err := m.Publish(t.Context(), []broker.Hint{{ID: "1", Queue: "default", Action: "upper"}}); err != nil {
			t.Fatal(err)
		}
		if at := <-taken; at.Sub(began) != 24*time.Hour {
			t.Errorf("the id was taken after %s, want 24h", at.Sub(began))
		}
	})
}

func BenchmarkMemory(b *testing.B) {
	for _, queues := range []int{1, 1000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			m := broker.NewMemory(broker.Bounds{})
			defer m.Close()
			taker, err := m.Consume(broker.Interest{Actions: []string{"upper"}})
			if err != nil {
				b.Fatal(err)
			}
			const batch = 64
			hints := make([]broker.Hint, batch)
			n := 0
			publish := func() {
				for i := range hints {
					n++
					hints[i] = broker.Hint{ID: "01JE0000000000000000000001", Queue: fmt.Sprint("q", n%queues), Action: "upper"}
				}
				m.Publish(b.Context(), hints)
			}
			for range 10_000 / batch {
				publish()
			}
			for taken := 0; b.Loop(); taken++ {
				if taken%batch == 0 {
					publish()
					taker.Take(b.Context(), broker.Want{Limit: batch})
				}
			}
		})
	}
}
