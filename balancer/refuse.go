package balancer

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	// firstByteWait limits the wait for the first byte of a refused connection, which shows
	// its protocol. A silent client gets a line.
	firstByteWait = 200 * time.Millisecond
	// lingerTime and lingerBytes limit how long the balancer reads from a refused connection
	// before it closes it. Closing at once would send a reset that overtakes the refusal.
	lingerTime  = 2 * time.Second
	lingerBytes = 8 << 20
	// maxLingering limits the refusals that linger at a time. Further connections are closed
	// without a reply, so that a flood does not use up the descriptors.
	maxLingering = 256
)

// refusal is the reply to a refused connection, in both protocols. New renders it once.
type refusal struct {
	reason     string // for the log
	line, http []byte
}

// newRefusal renders a refusal in the line protocol and in HTTP. limit may be empty. The
// arguments must not need escaping in JSON.
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

// refuse sends r in the protocol of conn, and closes conn so that the reply arrives. It takes
// at most firstByteWait plus lingerTime.
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
	case n == 1 && first[0] == 0x16: // TLS: the client could not read a reply
		return
	case n == 1 && first[0] >= 'A' && first[0] <= 'Z':
		_, _ = conn.Write(r.http)
	default:
		_, _ = conn.Write(r.line)
	}
	_ = conn.CloseWrite()
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}
