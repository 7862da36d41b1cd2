package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// load is a number of callers, each of which sends batches of its own.
type load struct{ callers, batch int }

func loads() []load { return []load{{1, 1}, {16, 1}, {16, 16}, {1, 256}, {4, 64}} }

func (l load) String() string { return fmt.Sprintf("%dx%d", l.callers, l.batch) }

// drafts returns n ordinary tasks. Their ids continue from first, which the callers share.
func drafts(first *atomic.Int64, n int) []task.Task {
	list := make([]task.Task, n)
	last := first.Add(int64(n))
	for i := range list {
		list[i] = task.Task{
			ID: fmt.Sprintf("01JE%022d", last-int64(n-i)), Action: "upper", Payload: task.Body{Inline: []byte(`"texto de prueba"`)},
			Options: task.Options{Queue: "default", Timeout: time.Minute, MaxAttempts: 5, Keep: 24 * time.Hour},
		}
	}
	return list
}

// run distributes b.N tasks among the callers; do works on one batch.
func (l load) run(b *testing.B, do func(s *sqlite.Store, tasks []task.Task)) {
	b.Helper()
	s := open(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "tasks.db")})
	var ids atomic.Int64
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range l.callers {
		wait.Go(func() {
			for left.Add(int64(-l.batch)) > int64(-l.batch) {
				do(s, drafts(&ids, l.batch))
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkAccept measures accepting tasks, which every enqueue waits for.
func BenchmarkAccept(b *testing.B) {
	for _, l := range loads() {
		b.Run(l.String(), func(b *testing.B) {
			l.run(b, func(s *sqlite.Store, tasks []task.Task) { mustAccept(b, s, tasks) })
		})
	}
}

// BenchmarkOpen measures the time from opening a store with a hundred thousand queued tasks to its first claim.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "tasks.db")
	s := open(b, sqlite.Config{Path: path})
	var ids atomic.Int64
	for range 100 {
		mustAccept(b, s, drafts(&ids, 1000))
	}
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = open(b, sqlite.Config{Path: path})
		if got, err := s.Claim(b.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1}); err != nil || len(got) != 1 {
			b.Fatalf("claimed %+v, %v", got, err)
		}
	}
}

// BenchmarkLife measures accepting tasks, claiming as many, and recording their success.
func BenchmarkLife(b *testing.B) {
	for _, l := range loads() {
		b.Run(l.String(), func(b *testing.B) {
			l.run(b, func(s *sqlite.Store, tasks []task.Task) {
				mustAccept(b, s, tasks)
				outcomes, err := work(s, len(tasks))
				if err != nil || len(outcomes) == 0 {
					b.Errorf("%d recorded, %v", len(outcomes), err)
				}
			})
		})
	}
}

// work claims tasks and records that they have succeeded.
func work(s *sqlite.Store, n int) ([]store.Outcome, error) {
	got, err := s.Claim(context.Background(), store.Claim{
		Node: "n1", Actions: []string{"echo", "upper", "sleep", "fib"}, Limit: n,
	})
	if err != nil {
		return nil, err
	}
	outcomes := make([]store.Outcome, len(got))
	for i, t := range got {
		outcomes[i] = store.Outcome{
			ID: t.ID, Fence: t.Fence, Change: task.Succeed, Result: task.Body{Inline: []byte(`{"ok":true,"data":"TEXTO DE PRUEBA"}`)},
		}
	}
	_, err = s.Record(context.Background(), outcomes)
	return outcomes, err
}

func mustAccept(t testing.TB, s *sqlite.Store, tasks []task.Task) {
	t.Helper()
	answers, err := s.Accept(context.Background(), tasks)
	if err != nil || answers[0].Duplicate || answers[0].Refusal != nil {
		t.Errorf("accept: %+v, %v", answers, err)
	}
}
