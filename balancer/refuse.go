package balancer

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	// firstByteWait is how long a refused connection may take to show by its first byte
	// which protocol it speaks; a client that waits silently gets a line.
	firstByteWait = 200 * time.Millisecond
	// lingerTime and lingerBytes bound how long a refused connection is read on
	// after the refusal. Closing at once would send a reset that overtakes it.
	lingerTime  = 2 * time.Second
	lingerBytes = 8 << 20
	// maxLingering bounds the refusals that linger at once; above it connections
	// are closed without a word, so that a flood costs no descriptors.
	maxLingering = 256
)

// refusal is why a connection is not balanced. Both its forms are written once,
// when the balancer is made.
type refusal struct {
	reason     string // for the log
	line, http []byte
}

// newRefusal renders a refusal in the line protocol and in HTTP. limit may be
// empty. The texts must need no escaping in JSON.
func newRefusal(code, text, limit string) *refusal {
	var named string
	if limit != "" {
		named = fmt.Sprintf(`,"limit":"%s"`, limit)
	}
	line := fmt.Sprintf(`{"id":null,"status":"error","code":"%s","error":"%s"%s,"retry_after":1}`+"\n", code, text, named)
	problem := fmt.Sprintf(`{"type":"about:blank","title":"Service Unavailable","status":503,"code":"%s","detail":"%s"%s,"retry_after":1}`+"\n",
		code, text, named)
	head := []string{
		"HTTP/1.1 503 Service Unavailable",
		"Content-Type: application/problem+json",
		fmt.Sprintf("Content-Length: %d", len(problem)),
		"Retry-After: 1",
		"Connection: close",
	}
	return &refusal{
		reason: text,
		line:   []byte(line),
		http:   []byte(strings.Join(head, "\r\n") + "\r\n\r\n" + problem),
	}
}

// refuse answers conn with r in the protocol that conn speaks, and closes it in
// such a way that the answer arrives. It takes at most firstByteWait and
// lingerTime.
func (b *Balancer) refuse(conn *net.TCPConn, r *refusal) {
	defer conn.Close()
	b.noteRefusal(r)
	select {
	case b.lingering <- struct{}{}:
		defer func() { <-b.lingering }()
	default:
		return
	}
	_ = conn.SetDeadline(time.Now().Add(firstByteWait))
	var first [1]byte
	n, _ := conn.Read(first[:])
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	switch {
	case n == 1 && first[0] == 0x16: // TLS: nothing that we could say would be understood
		return
	case n == 1 && first[0] >= 'A' && first[0] <= 'Z':
		_, _ = conn.Write(r.http)
	default:
		_, _ = conn.Write(r.line)
	}
	_ = conn.CloseWrite()
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}
