//go:build linux && !386 && !s390x

package balancer

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// maxPipes limits the open pipes, which need two descriptors each. A flow without a pipe
	// uses a buffer.
	maxPipes = 64
	// pipeSize is the requested capacity of a pipe, in bytes.
	pipeSize = 256 << 10
)

// pipe holds spliced bytes between two sockets.
type pipe struct{ in, out int }

// pipes lends pipes to flows. It is safe for concurrent use.
type pipes struct {
	free chan *pipe
	open atomic.Int32 // free ones and borrowed ones
}

func newPipes() *pipes { return &pipes{free: make(chan *pipe, maxPipes)} }

// borrow returns an empty pipe, or nil if maxPipes are in use or no descriptors are free.
func (p *pipes) borrow() *pipe {
	select {
	case one := <-p.free:
		return one
	default:
	}
	if p.open.Add(1) > maxPipes {
		p.open.Add(-1)
		return nil
	}
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		p.open.Add(-1)
		return nil
	}
	// A pipe of the default size (64 KiB) works too, with more calls.
	_, _ = unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{in: ends[1], out: ends[0]}
}

// release takes back a pipe for reuse, or closes it if it is not empty.
func (p *pipes) release(one *pipe, empty bool) {
	if empty {
		p.free <- one // does not block: its capacity is maxPipes
		return
	}
	p.discard(one)
}

func (p *pipes) discard(one *pipe) {
	p.open.Add(-1)
	_ = unix.Close(one.in)
	_ = unix.Close(one.out)
}

// close closes all pipes. All must have been released.
func (p *pipes) close() {
	for {
		select {
		case one := <-p.free:
			p.discard(one)
		default:
			return
		}
	}
}
