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

var ids atomic.Int64

func drafts(n int) []task.Task {
	list := make([]task.Task, n)
	last := ids.Add(int64(n))
	for i := range list {
		list[i] = task.Task{
			ID: fmt.Sprintf("01JE%022d", last-int64(n-i)), Action: "upper", Payload: task.Body{Inline: []byte(`"texto de prueba"`)},
			Options: task.Options{Queue: "default", Timeout: time.Minute, MaxAttempts: 5, Keep: 24 * time.Hour},
		}
	}
	return list
}

// run shares b.N tasks among the callers.
func (g group) run(b *testing.B, do func(n int)) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range g.callers {
		wait.Go(func() {
			for left.Add(int64(-g.batch)) > int64(-g.batch) {
				do(g.batch)
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

func BenchmarkAccept(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			s := open(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "tasks.db")})
			g.run(b, func(n int) { mustAccept(b, s, n) })
		})
	}
}

func BenchmarkLife(b *testing.B) {
	for _, g := range groups() {
		b.Run(g.String(), func(b *testing.B) {
			s := open(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "tasks.db")})
			g.run(b, func(n int) {
				mustAccept(b, s, n)
				got, err := s.Claim(context.Background(), store.Claim{Node: "n1", Actions: []string{"echo", "upper", "sleep", "fib"}, Limit: n})
				if err != nil {
					b.Error(err)
				}
				outcomes := make([]store.Outcome, len(got))
				for i, t := range got {
					outcomes[i] = store.Outcome{ID: t.ID, Attempt: t.Attempt, Change: task.Succeed,
						Result: task.Body{Inline: []byte(`{"ok":true,"data":"TEXTO DE PRUEBA"}`)}}
				}
				if _, err := s.Record(context.Background(), outcomes); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func mustAccept(b *testing.B, s *sqlite.Store, n int) {
	answers, err := s.Accept(context.Background(), drafts(n))
	if err != nil || answers[0].Duplicate || answers[0].Refusal != nil {
		b.Errorf("accept: %+v, %v", answers, err)
	}
}
