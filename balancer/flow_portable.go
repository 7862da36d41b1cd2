//go:build !linux || 386 || s390x

package balancer

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// bufferSize is the size of the buffer of each direction of a connection, in bytes. It is
// small, since an idle connection occupies it, too.
const bufferSize = 8 << 10

// carrier relays bytes with plain reads and writes, for systems without splice.
type carrier struct{}

// newCarrier returns a carrier.
func newCarrier() *carrier { return &carrier{} }

// close does nothing.
func (*carrier) close() {}

// carry copies from one connection to the other until one of them ends or a deadline
// passes. While it waits to write, and expires is not nil, it stores the time at which
// stallTimeout is reached there.
func (*carrier) carry(from, to *net.TCPConn, expires *atomic.Int64) ending {
	buffer := make([]byte, bufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if failure := send(to, buffer[:n], expires); failure != nil {
				return endingOf(failure, targetBroken)
			}
		}
		if errors.Is(err, io.EOF) {
			return endOfStream
		}
		if err != nil {
			return endingOf(err, sourceBroken)
		}
	}
}

func send(to *net.TCPConn, bytes []byte, expires *atomic.Int64) error {
	if expires != nil {
		expires.Store(time.Now().Add(stallTimeout).UnixNano())
		defer expires.Store(0)
	}
	_, err := to.Write(bytes)
	return err
}

// endingOf distinguishes a deadline that the balancer set from a failure of the peer.
func endingOf(err error, otherwise ending) ending {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return stopped
	}
	return otherwise
}
