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

// bufferSize is what each direction of a connection holds, in bytes: small,
// since here it is held while idle too.
const bufferSize = 8 << 10

// carrier carries bytes with plain reads and writes, where there is no splice.
type carrier struct{}

// newCarrier makes a carrier; Close it when every Run has returned.
func newCarrier() *carrier { return &carrier{} }

// Close does nothing here.
func (*carrier) close() {}

// carry brings everything that from sends to to, until one of them ends or a
// deadline strikes. While it waits for to and expires is not nil, the time at
// which stallLimit is reached stands there.
func (*carrier) carry(from, to *net.TCPConn, expires *atomic.Int64) ending {
	buffer := make([]byte, bufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if failure := send(to, buffer[:n], expires); failure != nil {
				return whatEnded(failure, targetBroken)
			}
		}
		if errors.Is(err, io.EOF) {
			return endOfStream
		}
		if err != nil {
			return whatEnded(err, sourceBroken)
		}
	}
}

func send(to *net.TCPConn, bytes []byte, expires *atomic.Int64) error {
	if expires != nil {
		expires.Store(time.Now().Add(stallLimit).UnixNano())
		defer expires.Store(0)
	}
	_, err := to.Write(bytes)
	return err
}

// whatEnded tells a deadline set by the balancer from a failure of the peer.
func whatEnded(err error, otherwise ending) ending {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return stopped
	}
	return otherwise
}
