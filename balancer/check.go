package balancer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// readyRequest asks whether the node accepts new connections. HAProxy sends the same request
// (HTTP/1.0, no Host), so nodes receive only one kind of check.
const readyRequest = "GET /readyz HTTP/1.0\r\n\r\n"

// answerSize is how many bytes of the answer to a check are read. It is more than an answer
// has, since unread bytes would close the connection with a reset.
const answerSize = 4 << 10

// watch checks n at once and then every CheckInterval, until ctx ends.
func (b *Balancer) watch(ctx context.Context, n *node) {
	interval := time.NewTicker(b.cfg.CheckInterval)
	defer interval.Stop()
	for {
		found, err := b.check(ctx, n.address)
		if ctx.Err() != nil {
			return
		}
		if !isLocal(err) {
			b.nodes.observe(n, found, err)
		}
		select {
		case <-interval.C:
		case <-ctx.Done():
			return
		}
	}
}

// check requests /readyz from one node. The error is the reason why the node is not ready.
func (b *Balancer) check(ctx context.Context, address string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.CheckTimeout)
	defer cancel()
	var header []byte
	if b.cfg.ProxyProtocol {
		header = localProxyHeader()
	}
	if b.cfg.NodeTLS == nil {
		header = append(header, readyRequest...)
	}
	conn, err := b.dial(ctx, address, header)
	if err != nil {
		return outcomeOf(err), err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return failed, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if b.cfg.NodeTLS != nil {
		return b.checkTLS(ctx, conn, address)
	}
	return readOutcome(conn)
}

// checkTLS requests /readyz over TLS.
func (b *Balancer) checkTLS(ctx context.Context, conn net.Conn, address string) (outcome, error) {
	config := b.cfg.NodeTLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	inner := tls.Client(conn, config)
	if err := inner.HandshakeContext(ctx); err != nil {
		return failed, fmt.Errorf("TLS: %w", err)
	}
	if _, err := io.WriteString(inner, readyRequest); err != nil {
		return failed, err
	}
	return readOutcome(inner)
}

// readOutcome reads the status line of the answer to a check.
func readOutcome(conn net.Conn) (outcome, error) {
	line, err := bufio.NewReaderSize(conn, answerSize).ReadSlice('\n')
	if err != nil {
		return failed, fmt.Errorf("no status line from /readyz: %w", err)
	}
	version, rest, _ := bytes.Cut(line, []byte(" "))
	status, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	switch {
	case !bytes.HasPrefix(version, []byte("HTTP/1.")):
		return failed, fmt.Errorf("not HTTP from /readyz: %.40q", line)
	case string(status) == "200":
		return ready, nil
	case string(status) == "503":
		return drains, nil
	}
	return failed, fmt.Errorf("status %.10q from /readyz", status)
}

// dial connects to a node within ConnectTimeout and sends first.
func (b *Balancer) dial(ctx context.Context, address string, first []byte) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: b.cfg.ConnectTimeout, KeepAliveConfig: b.keepAlive()}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return conn.(*net.TCPConn), nil
	}
	// These few bytes fit into the send buffer of a new connection, so Write does not block.
	if _, err := conn.Write(first); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.TCPConn), nil
}

// outcomeOf returns the outcome of a failed connect.
func outcomeOf(err error) outcome {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return refused
	}
	return failed
}

// isLocal reports whether err is a failure of this process (out of descriptors, ports or
// memory) rather than of a node.
func isLocal(err error) bool {
	for _, local := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}
