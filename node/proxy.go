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

// The PROXY protocol. Version 1 is one line of at most 107 bytes. Version 2 has a prefix of
// 16 bytes, whose last two are the number of bytes that follow. Balancers add extensions such
// as TLS names; 4 KiB are enough for all extensions in use.
const (
	proxyV1Signature = "PROXY "
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV1Max       = 107
	proxyV2Prefix    = 16
	proxyMax         = 4 << 10
)

// proxyTimeout limits the wait for the PROXY header. A balancer sends it at once, so this only
// ends connections that do not come from the balancer.
const proxyTimeout = 5 * time.Second

// errNoProxyHeader is the error of a connection that does not come from the balancer.
var errNoProxyHeader = errors.New("the connection does not begin with a PROXY protocol header, which --proxy-protocol requires")

// proxyReader reads the PROXY header, which has the client's address. The zero value is ready
// to use. It is safe for concurrent use.
type proxyReader struct {
	buffers sync.Pool // of *[proxyMax]byte; a connection has one only during a peek
}

// read reads exactly the PROXY header from the connection and returns the address of the
// client in it, or the peer's if there is none (the balancer's own health checks). The bytes
// after the header stay in the socket. read fails at the deadline, and if the header is
// missing, broken or longer than 4 KiB; then the caller closes the connection. Afterwards the
// connection has no read deadline.
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

// discard reads the bytes that were peeked from the socket. It does not wait.
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

// proxyHeaderSize returns the length of the header at the start of data, or 0 if data is too
// short to know it or to contain the whole header.
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

// begins reports whether data begins with the signature, or is the beginning of it.
func begins(data []byte, signature string) bool {
	n := min(len(data), len(signature))
	return string(data[:n]) == signature[:n]
}

// parseProxyHeader returns the source address of a complete header, or nil if it has none.
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

// unspecified reports whether this is a version 2 header for a client whose address family
// the balancer cannot express: command PROXY, family 0. The specification lets the receiver
// decide whether to accept it; refusing it would lock such clients out.
func unspecified(header []byte) bool {
	const command, family = 12, 13
	return len(header) >= proxyV2Prefix && header[0] == '\r' && header[command] == 0x21 && header[family] == 0
}
