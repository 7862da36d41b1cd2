package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/node"
)

// startNode runs a node inside the test, so that its allocations can be counted, and returns a connection to it.
func startNode(tb testing.TB) net.Conn {
	tb.Helper()
	n, err := node.New(node.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- n.Run(ctx) }()
	conn, err := load.Dial(ctx, n.Addr().String(), 10*time.Minute)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-over; err != nil {
			tb.Error(err)
		}
	})
	return conn
}

// pusher sends batches of depth tasks and waits for all replies of one before it sends the next. It allocates
// nothing while it works.
type pusher struct {
	conn  net.Conn
	batch []byte
	depth int
	buf   []byte
}

func newPusher(tb testing.TB, action string, depth int) *pusher {
	p := &pusher{conn: startNode(tb), depth: depth, buf: make([]byte, 64<<10)}
	for i := range depth {
		p.batch = fmt.Appendf(p.batch, `{"id":%d,"action":%q,"payload":"hola"}`+"\n", load.FirstID+i, action)
	}
	return p
}

// push has at least n tasks done and returns how many it were.
func (p *pusher) push(tb testing.TB, n int) int {
	done := 0
	for done < n {
		if _, err := p.conn.Write(p.batch); err != nil {
			tb.Fatal(err)
		}
		for due := p.depth; due > 0; {
			n, err := p.conn.Read(p.buf)
			if err != nil {
				tb.Fatal(err)
			}
			due -= bytes.Count(p.buf[:n], []byte{'\n'})
		}
		done += p.depth
	}
	return done
}

// allocations returns how many objects, and how many bytes of them, each of about n tasks allocates anywhere in the
// process: in the node, and in the standard library's sockets on both sides.
func (p *pusher) allocations(tb testing.TB, n int) (objects, size float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := float64(p.push(tb, n))
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / done, float64(after.TotalAlloc-before.TotalAlloc) / done
}

// BenchmarkTask pushes tasks through a real loopback connection: one operation is one task. Profile it to see
// where a task's time goes:
//
//	go test -C lab ./bench -run '^$' -bench Task/upper/128 -cpuprofile cpu.out && go tool pprof -top cpu.out
func BenchmarkTask(b *testing.B) {
	for _, action := range []string{"echo", "upper"} {
		for _, depth := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/%d", action, depth), func(b *testing.B) {
				p := newPusher(b, action, depth)
				p.push(b, 1000)
				b.ResetTimer()
				objects, size := p.allocations(b, b.N)
				b.ReportMetric(objects, "allocs/task")
				b.ReportMetric(size, "B/task")
			})
		}
	}
}

// The promise is at most two allocations beyond the reply's own bytes; the hot path needs none.
func TestATaskAllocatesAtMostTwoObjects(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget at random, so that buffers are allocated anew")
	}
	for _, action := range []string{"echo", "upper"} {
		for _, depth := range []int{1, 16, 128} {
			p := newPusher(t, action, depth)
			p.push(t, 2000)
			if objects, size := p.allocations(t, 5000); objects > 2 {
				t.Errorf("%s at depth %d: %.2f objects and %.0f bytes a task", action, depth, objects, size)
			}
		}
	}
}
