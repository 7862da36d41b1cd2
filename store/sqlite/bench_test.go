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

// group is how the load comes: so many callers, each with a batch of its own in each call.
type group struct{ callers, batch int }

func groups() []group { return []group{{1, 1}, {16, 1}, {16, 16}, {1, 256}, {4, 64}} }

func (g group) String() string { return fmt.Sprintf("%dx%d", g.callers, g.batch) }

// drafts makes the usual tasks. Ids go on from first, which the callers share.
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

// run shares b.N tasks among the callers; do does something with some of them.
func (g group) run(b *testing.B, do func(s *sqlite.Store, tasks []task.Task)) {
	b.Helper()
	s := open(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "tasks.db")})
	var ids atomic.Int64
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range g.callers {
		wait.Go(func() {
			for left.Add(int64(-g.batch)) > int64(-g.batch) {
				do(s, drafts(&ids, g.batch))
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkAccept accepts tasks, which is what an enqueue waits for.
func BenchmarkAccept(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			g.run(b, func(s *sqlite.Store, tasks []task.Task) { mustAccept(b, s, tasks) })
		})
	}
}

// BenchmarkLife accepts tasks, claims as many and records their success.
func BenchmarkLife(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			g.run(b, func(s *sqlite.Store, tasks []task.Task) {
				mustAccept(b, s, tasks)
				outcomes, err := work(s, len(tasks))
				if err != nil || len(outcomes) == 0 {
					b.Errorf("%d recorded, %v", len(outcomes), err)
				}
			})
		})
	}
}

// work claims tasks and records that they succeeded.
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
