package node

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// The PROXY protocol as far as its length goes. Version 1 is one line of at most
// 107 bytes; version 2 is a prefix of 16 bytes, the last two of which say how many
// follow. Balancers add particulars such as TLS names to those; 4 KiB hold all that
// are in use.
const (
	proxyV1Signature = "PROXY "
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV1Max       = 107
	proxyV2Prefix    = 16
	proxyMax         = 4 << 10
)

// proxyTimeout is how long a balancer may take to send the PROXY header. It sends it
// with the connection, so this only ends connections that come from elsewhere.
const proxyTimeout = 5 * time.Second

// errNoProxyHeader is what a connection is refused with that comes past the balancer.
var errNoProxyHeader = errors.New("the connection does not begin with a PROXY protocol header, which --proxy-protocol requires")

// proxyReader reads the header with which a balancer says whose connection this
// is. The zero value is ready; it may be used from many goroutines at once.
type proxyReader struct {
	buffers sync.Pool // of *[proxyMax]byte; a connection has one only during a look
}

// read takes exactly the PROXY header from the connection and gives the address of
// the client that it names, or the peer's where it names none (the balancer's own
// health checks). What follows the header stays in the socket. The connection is
// to be closed when read fails: at the deadline, when the header is missing,
// broken or longer than 4 KiB. It has no read deadline afterwards.
func (p *proxyReader) read(conn *net.TCPConn, deadline time.Time) (net.Addr, error) {
	var source net.Addr
	err := peekUntil(conn, deadline, func(fd int) (bool, error) {
		buffer, ok := p.buffers.Get().(*[proxyMax]byte)
		if !ok {
			buffer = new([proxyMax]byte)
		}
		defer p.buffers.Put(buffer)
		n, err := peek(fd, buffer[:])
		if err != nil {
			return false, err
		}
		size, err := proxyHeaderSize(buffer[:n])
		if err != nil || size == 0 {
			return false, err
		}
		if source, err = parseProxyHeader(buffer[:size]); err != nil {
			return false, err
		}
		return true, discard(fd, buffer[:size])
	})
	switch {
	case errors.Is(err, io.EOF):
		return nil, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("the PROXY protocol header was not complete in time: %w", err)
	case err != nil:
		return nil, err
	case source == nil:
		return conn.RemoteAddr(), nil
	}
	return source, nil
}

// discard takes from the socket what was peeked at before, so it need not wait.
func discard(fd int, header []byte) error {
	for len(header) > 0 {
		n, err := receive(fd, header, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		header = header[n:]
	}
	return nil
}

// proxyHeaderSize gives the length of the header that data begins with, and 0 as
// long as that cannot be said or not all of it is there.
func proxyHeaderSize(data []byte) (int, error) {
	switch {
	case begins(data, proxyV1Signature):
		if end := bytes.IndexByte(data[:min(len(data), proxyV1Max)], '\n'); end >= 0 {
			return end + 1, nil
		}
		if len(data) >= proxyV1Max {
			return 0, fmt.Errorf("the PROXY protocol line is longer than %d bytes", proxyV1Max)
		}
		return 0, nil
	case begins(data, proxyV2Signature):
		if len(data) < proxyV2Prefix {
			return 0, nil
		}
		size := proxyV2Prefix + int(binary.BigEndian.Uint16(data[proxyV2Prefix-2:]))
		if size > proxyMax {
			return 0, fmt.Errorf("the PROXY protocol header has %d bytes, at most %d are read", size, proxyMax)
		}
		if size > len(data) {
			return 0, nil
		}
		return size, nil
	}
	return 0, errNoProxyHeader
}

// begins tells whether data begins with the signature, as far as it goes.
func begins(data []byte, signature string) bool {
	n := min(len(data), len(signature))
	return string(data[:n]) == signature[:n]
}

// parseProxyHeader gives the source address of a whole header; nil where the
// header names none, which makes it the peer's.
func parseProxyHeader(header []byte) (net.Addr, error) {
	if unspecified(header) {
		return nil, nil
	}
	parsed, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return nil, fmt.Errorf("broken PROXY protocol header: %w", err)
	}
	if parsed.Command.IsLocal() {
		return nil, nil
	}
	if source, _, ok := parsed.TCPAddrs(); ok {
		return source, nil
	}
	return nil, nil
}

// unspecified tells a version 2 header of a client whose address family the
// balancer cannot express: command PROXY, family 0. The specification leaves to the
// receiver whether to accept it, and refusing would lock such clients out.
func unspecified(header []byte) bool {
	const command, family = 12, 13
	return len(header) >= proxyV2Prefix && header[0] == '\r' && header[command] == 0x21 && header[family] == 0
}
