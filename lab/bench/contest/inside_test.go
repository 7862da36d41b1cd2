package contest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/broker/rabbitmq"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/tasks"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/sqlite"
)

// keeperInside runs a node with a store inside the test, so that it can be profiled and its allocations counted.
func keeperInside(tb testing.TB) string {
	tb.Helper()
	s, err := sqlite.Open(sqlite.Config{Path: filepath.Join(tb.TempDir(), "posta.db")})
	if err != nil {
		tb.Fatal(err)
	}
	return nodeInside(tb, s, durable.Config{Store: s, RunsSuspects: true})
}

// clusterInside runs three nodes that share real servers inside the test.
func clusterInside(tb testing.TB) (addrs []string) {
	tb.Helper()
	db, mq := testenv.StartPostgres(tb), testenv.RabbitMQ(tb)
	for i := range clusterNodes {
		s, err := postgres.Open(tb.Context(), postgres.Config{URL: db.URL()})
		if err != nil {
			tb.Fatal(err)
		}
		b, err := rabbitmq.Open(rabbitmq.Config{URL: mq.URL})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { b.Close() })
		addrs = append(addrs, nodeInside(tb, s, durable.Config{Store: s, RunsSuspects: true, Broker: b, Node: fmt.Sprint("node-", i)}))
	}
	return addrs
}

// nodeInside runs a node that closes its store when the test ends.
func nodeInside(tb testing.TB, s io.Closer, config durable.Config) string {
	tb.Helper()
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Name: config.Node, Actions: actions.Builtin(), Durable: &config})
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

// BenchmarkCluster does the same on three nodes with real servers, which take more of the time than the profile shows.
func BenchmarkCluster(b *testing.B) { benchmark(b, clusterInside) }

// BenchmarkDurable enqueues, works and records tasks through real loopback connections: one operation is one task.
// Profile it to see where a task's time goes:
//
//	go test -C lab ./bench/contest -run '^$' -bench Durable/calls -cpuprofile cpu.out && go tool pprof -top cpu.out
func BenchmarkDurable(b *testing.B) {
	benchmark(b, func(tb testing.TB) []string { return []string{keeperInside(tb)} })
}

// BenchmarkSteady lets a cluster have 200 tasks a second, as the measurement of latency does: one operation is one task.
func BenchmarkSteady(b *testing.B) {
	addrs := clusterInside(b)
	cpu := load.CPUTime(os.Getpid())
	b.ResetTimer()
	sample, err := tasks.Steady(b.Context(), tasks.Target{Addrs: addrs}, steadyRate, time.Duration(max(b.N, clusterNodes))*time.Second/steadyRate)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((load.CPUTime(os.Getpid())-cpu).Microseconds())/float64(sample.Tasks), "cpu-µs/task")
	b.ReportMetric(sample.P50/1000, "p50-ms")
	b.ReportMetric(sample.P99/1000, "p99-ms")
}

func benchmark(b *testing.B, inside func(testing.TB) []string) {
	b.Helper()
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
			addrs := inside(b)
			control, err := tasks.Open(b.Context(), addrs[0])
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
			sample, err := tasks.Measure(b.Context(), tasks.Target{Addrs: addrs}, r)
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
