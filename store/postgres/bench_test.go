package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// group is how the load comes: so many callers, each with a batch of its own in each call.
type group struct{ callers, batch int }

func groups() []group { return []group{{1, 1}, {8, 1}, {4, 64}, {1, 256}, {2, 1000}} }

func (g group) String() string { return fmt.Sprintf("%dx%d", g.callers, g.batch) }

// run shares b.N tasks among the callers; do does something with some of them.
func (g group) run(b *testing.B, do func(s *postgres.Store, tasks []task.Task)) {
	b.Helper()
	s := open(b, postgres.Config{URL: startDatabase(b).schema()})
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range g.callers {
		wait.Go(func() {
			for left.Add(int64(-g.batch)) > int64(-g.batch) {
				do(s, drafts(g.batch))
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkAccept accepts tasks, which is what an enqueue waits for.
func BenchmarkAccept(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			g.run(b, func(s *postgres.Store, tasks []task.Task) { mustAccept(b, s, tasks) })
		})
	}
}

// BenchmarkLife accepts tasks, claims as many and records their success.
func BenchmarkLife(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			g.run(b, func(s *postgres.Store, tasks []task.Task) {
				mustAccept(b, s, tasks)
				if _, err := work(s, "n1", len(tasks)); err != nil {
					b.Errorf("work: %v", err)
				}
			})
		})
	}
}
