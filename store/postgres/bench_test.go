package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// load is a number of callers, each of which sends batches of its own.
type load struct{ callers, batch int }

func loads() []load { return []load{{1, 1}, {8, 1}, {4, 64}, {1, 256}, {2, 1000}} }

func (l load) String() string { return fmt.Sprintf("%dx%d", l.callers, l.batch) }

// run distributes b.N tasks among the callers; do works on one batch.
func (l load) run(b *testing.B, do func(s *postgres.Store, tasks []task.Task)) {
	b.Helper()
	s := open(b, postgres.Config{URL: startDatabase(b).schema()})
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range l.callers {
		wait.Go(func() {
			for left.Add(int64(-l.batch)) > int64(-l.batch) {
				do(s, drafts(l.batch))
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkAccept measures accepting tasks, which every enqueue waits for.
func BenchmarkAccept(b *testing.B) {
	for _, l := range loads() {
		b.Run(l.String(), func(b *testing.B) {
			l.run(b, func(s *postgres.Store, tasks []task.Task) { mustAccept(b, s, tasks) })
		})
	}
}

// BenchmarkLife measures accepting tasks, claiming as many, and recording their success.
func BenchmarkLife(b *testing.B) {
	for _, l := range loads() {
		b.Run(l.String(), func(b *testing.B) {
			l.run(b, func(s *postgres.Store, tasks []task.Task) {
				mustAccept(b, s, tasks)
				if _, err := work(s, "n1", len(tasks)); err != nil {
					b.Errorf("work: %v", err)
				}
			})
		})
	}
}
