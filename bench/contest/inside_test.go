package contest

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/bench/load"
	"github.com/posta-tasks/posta/bench/tasks"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/sqlite"
)

// keeperInside runs a node with a store inside the test, so that it can be profiled and its allocations counted.
func keeperInside(tb testing.TB) string {
	tb.Helper()
	s, err := sqlite.Open(sqlite.Config{Path: filepath.Join(tb.TempDir(), "posta.db")})
	if err != nil {
		tb.Fatal(err)
	}
	n, err := node.New(node.Config{
		Listen: "127.0.0.1:0", Actions: actions.Builtin(), Durable: &durable.Config{Store: s, Lone: true},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- n.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			tb.Error(err)
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n.Addr().String()
}

// BenchmarkDurable enqueues, works and records tasks through real loopback connections: one operation is one task.
// Profile it to see where a task's time goes:
//
//	go test ./bench/contest -run '^$' -bench Durable/calls -cpuprofile cpu.out && go tool pprof -top cpu.out
func BenchmarkDurable(b *testing.B) {
	for _, kind := range []struct {
		name  string
		shape load.Shape
		queue string
	}{
		{"calls", callShape, tasks.Worked},
		{"pipelined", workedShape, tasks.Worked},
		{"enqueued", workedShape, tasks.Backlog},
	} {
		b.Run(kind.name, func(b *testing.B) {
			addr := keeperInside(b)
			control, err := tasks.Open(b.Context(), addr)
			if err != nil {
				b.Fatal(err)
			}
			defer control.Close()
			if err := control.Pause(tasks.Backlog); err != nil {
				b.Fatal(err)
			}
			r := tasks.Round{Shape: kind.shape, Queue: kind.queue, For: time.Hour, Most: max(1, b.N/kind.shape.Connections), Keep: keepLong}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cpu := load.CPUTime(os.Getpid())
			b.ResetTimer()
			sample, err := tasks.Measure(b.Context(), tasks.Target{Addr: addr}, r)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			runtime.ReadMemStats(&after)
			n := float64(sample.Tasks)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/task")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/task")
			b.ReportMetric(float64((load.CPUTime(os.Getpid())-cpu).Microseconds())/n, "cpu-µs/task")
			b.ReportMetric(sample.Rate, "tasks/s")
		})
	}
}
