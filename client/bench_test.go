package client_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/posta-tasks/posta/client"
)

// bare starts a server that parses very little and answers all lines of one read in one
// write, so that the benchmarks measure the client.
func bare(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var peers sync.WaitGroup
	peers.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			peers.Go(func() { answerAll(nc) })
		}
	})
	b.Cleanup(func() {
		_ = listener.Close()
		peers.Wait()
	})
	return listener.Addr().String()
}

func answerAll(nc net.Conn) {
	defer nc.Close()
	reader := bufio.NewReaderSize(nc, 64<<10)
	var out []byte
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		id := line[len(`{"id":`):]
		out = append(out, `{"id":`...)
		out = append(out, id[:bytes.IndexByte(id, ',')]...)
		out = append(out, `,"status":"done","result":{"ok":true,"data":"HOLA"}}`+"\n"...)
		if reader.Buffered() == 0 {
			if _, err := nc.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

func benchmarkClient(b *testing.B, cfg client.Config) *client.Client {
	cfg.Addr = bare(b)
	c, err := client.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkRun measures callers that each wait for their result.
func BenchmarkRun(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c := benchmarkClient(b, client.Config{})
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			var running sync.WaitGroup
			for i := range callers {
				running.Go(func() {
					for range (b.N + i) / callers {
						if _, err := c.Run(ctx, "upper", "hola"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			running.Wait()
		})
	}
}

// BenchmarkStream measures a stream of tasks.
func BenchmarkStream(b *testing.B) {
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			c := benchmarkClient(b, client.Config{Connections: connections})
			request := client.Request{Action: "upper", Payload: []byte(`"hola"`)}
			b.ReportAllocs()
			b.ResetTimer()
			tasks := func(yield func(int, client.Request) bool) {
				for i := range b.N {
					if !yield(i, request) {
						return
					}
				}
			}
			for _, outcome := range client.Stream(context.Background(), c, tasks) {
				if outcome.Err != nil {
					b.Fatal(outcome.Err)
				}
			}
		})
	}
}
