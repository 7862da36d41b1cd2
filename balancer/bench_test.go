package balancer

import (
	"fmt"
	"io"
	"testing"
)

// BenchmarkBursts sends one burst in each direction, as a task of that size does. Small
// bursts go through a buffer, large ones through a pipe.
func BenchmarkBursts(b *testing.B) {
	for _, size := range []int{64, 8 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			s := startRelay(b)
			go func() { _, _ = io.Copy(s.node, s.node) }()
			burst := randomBytes(size)
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			for b.Loop() {
				go func() { _, _ = s.client.Write(burst) }()
				if _, err := io.ReadFull(s.client, make([]byte, size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
