package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/posta-tasks/posta/task"
)

// pumpBytes is how many bytes are copied at once between a WebSocket and the line door.
const pumpBytes = 4 << 10

// socket speaks the line protocol with a web page, one object per message. The token may come with the request, or as
// the op auth, since browsers cannot send a header here.
//
//	→ GET /v1/socket (Upgrade: websocket)
//	← 101, then messages: {"id":1,"action":"upper","payload":"hola"} …
func (s *Server) socket(w http.ResponseWriter, r *http.Request) *task.Error {
	if s.config.Lines == nil {
		return task.Refuse(task.Unavailable, "this node serves no WebSockets")
	}
	who, refusal := s.checkToken(w, r, true)
	if refusal != nil {
		return refusal
	}
	if !isUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		s.problem(w, r, http.StatusUpgradeRequired, task.Refuse(task.InvalidRequest, "/v1/socket is for WebSockets, version 13"))
		return nil
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.takeLasting(socketBytes); refusal != nil {
		return refusal
	}
	connectionOf(r).know() // the line door asks for the token
	// The guard has checked the origin already, and it knows more names of this node.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil { // Accept has answered
		s.config.Logger.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return nil
	}
	ws.SetReadLimit(-1) // the line door has the limit
	c := newSocketConn(s, ws, r)
	var pumps sync.WaitGroup
	pumps.Go(c.readMessages)
	pumps.Go(c.writeMessages)
	pumps.Go(c.ping)
	s.config.Lines(c, who)
	pumps.Wait()
	return nil
}

// isUpgrade reports whether a request asks for a WebSocket as RFC 6455 defines it.
func isUpgrade(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return err == nil && len(key) == 16 && r.Method == http.MethodGet && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// hasToken reports whether the list in a header contains a token.
func hasToken(header http.Header, name, word string) bool {
	for _, value := range header.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// socketConn is a WebSocket as the door for lines sees it: a connection of bytes with
// deadlines. Two goroutines copy between the messages and the door:
//
//	messages ─→ readMessages ─→ input ─→ Read        Write ─→ output ─→ writeMessages ─→ messages
//
// Both pipes are unbuffered, so a slow side slows the other one down. A WebSocket has no half-close: after the client
// has closed it, it receives nothing, so the door sees an error, as of a broken connection.
type socketConn struct {
	net.Conn           // the end of the input pipe from which the door reads
	input     net.Conn // the other end, into which messages are written
	output    net.Conn // the end of the output pipe into which the door writes
	outputEnd net.Conn // the other end, from which messages are read
	ws        *websocket.Conn
	server    *Server
	remote    remoteAddr
	client    *connection   // the connection of the WebSocket; nil if another server serves it
	ended     chan struct{} // closed when the close frame was sent, whether or not the client answered it

	mu      sync.Mutex // guards the fields below
	leaving bool       // the door has written everything
	refused task.Code  // why the door ends the connection; "": it was not refused
}

func newSocketConn(s *Server, ws *websocket.Conn, r *http.Request) *socketConn {
	c := &socketConn{ws: ws, server: s, remote: remoteAddr(r.RemoteAddr), client: connectionOf(r), ended: make(chan struct{})}
	c.input, c.Conn = net.Pipe()
	c.output, c.outputEnd = net.Pipe()
	return c
}

// remoteAddr is the address of the client.
type remoteAddr string

// Network implements net.Addr.
func (a remoteAddr) Network() string { return "tcp" }

// String returns HOST:PORT.
func (a remoteAddr) String() string { return string(a) }

// readMessages turns each message into a line until there are no more.
func (c *socketConn) readMessages() {
	defer c.Conn.Close() // makes the reads of the door fail
	part := make([]byte, pumpBytes)
	for {
		kind, message, err := c.ws.Reader(context.Background())
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.close(websocket.StatusUnsupportedData, "a message must be text, a JSON object")
			return
		}
		if !c.pass(message, part) {
			return
		}
	}
}

// pass passes one message to the door. Line feeds, which JSON allows only between its tokens, become carriage
// returns, which JSON allows there too, so that the message is one line. A message that is not UTF-8 closes the
// WebSocket, as RFC 6455, 8.1 requires.
func (c *socketConn) pass(message io.Reader, part []byte) bool {
	var split []byte // the first bytes of a character that continues in the next part
	for {
		n, err := message.Read(part)
		text := part[:n]
		if len(split) > 0 {
			text = append(split, text...)
		}
		whole := wholeRunes(text)
		if !utf8.Valid(text[:whole]) || err == io.EOF && whole < len(text) {
			c.close(websocket.StatusInvalidFramePayloadData, "a message must be UTF-8")
			return false
		}
		split = append(split[:0], text[whole:]...)
		for i, b := range part[:n] {
			if b == '\n' {
				part[i] = '\r'
			}
		}
		if _, failed := c.input.Write(part[:n]); failed != nil {
			return false
		}
		if err == io.EOF {
			_, failed := c.input.Write([]byte{'\n'})
			return failed == nil
		}
		if err != nil {
			return false
		}
	}
}

// wholeRunes returns the length of a text without an incomplete character at its end.
func wholeRunes(text []byte) int {
	for back := 1; back <= min(utf8.UTFMax-1, len(text)); back++ {
		if at := len(text) - back; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return at
			}
			break
		}
	}
	return len(text)
}

// writeMessages sends each line as a message until the door has written everything, and then closes.
func (c *socketConn) writeMessages() {
	defer close(c.ended)
	var message io.WriteCloser // the message of an incomplete line
	part := make([]byte, pumpBytes)
	for {
		n, err := c.outputEnd.Read(part)
		for line := range bytes.Lines(part[:n]) {
			if message, err = c.writePart(message, line); err != nil {
				_ = c.outputEnd.Close()
				return
			}
		}
		if n == 0 && err != nil {
			c.goodbye()
			return
		}
	}
}

// writePart sends a line or a part of one. It returns the message if it is not complete.
func (c *socketConn) writePart(message io.WriteCloser, line []byte) (io.WriteCloser, error) {
	ctx := context.Background() // the door sets the deadlines
	text, isEnd := bytes.CutSuffix(line, []byte{'\n'})
	if message == nil && isEnd {
		return nil, c.ws.Write(ctx, websocket.MessageText, text)
	}
	var err error
	if message == nil {
		if message, err = c.ws.Writer(ctx, websocket.MessageText); err != nil {
			return nil, err
		}
	}
	if _, err = message.Write(text); err != nil || !isEnd {
		return message, err
	}
	return nil, message.Close()
}

// goodbye sends the close frame and waits a short time for that of the client.
func (c *socketConn) goodbye() {
	if !c.isLeaving() {
		return
	}
	c.mu.Lock()
	refused := c.refused
	c.mu.Unlock()
	switch {
	case refused == task.LineTooLong:
		c.close(websocket.StatusMessageTooBig, "")
	case refused != "":
		c.close(websocket.StatusPolicyViolation, "")
	case c.server.draining.Load():
		c.close(websocket.StatusGoingAway, "")
	default:
		c.close(websocket.StatusNormalClosure, "")
	}
}

// close sends the close frame and waits for that of the client. It waits as long, and reads as many bytes, as for a
// client that was asked to disconnect.
func (c *socketConn) close(status websocket.StatusCode, reason string) {
	if c.client != nil {
		c.client.capReads()
		_ = c.client.SetReadDeadline(time.Now().Add(task.LingerTime))
	}
	_ = c.ws.Close(status, reason)
}

// Refused records why the door ends the connection.
func (c *socketConn) Refused(code task.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = code
}

// ping sends a ping from time to time, so that no proxy closes a quiet WebSocket. It does not wait for a pong,
// since the kernel notices when the client has vanished.
func (c *socketConn) ping() {
	beat := time.NewTicker(c.server.heartbeat())
	defer beat.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-beat.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.server.limits.WriteTimeout)
		_ = c.ws.Ping(ctx)
		cancel()
	}
}

func (c *socketConn) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// Write passes lines, or parts of them, to the client.
func (c *socketConn) Write(p []byte) (int, error) { return c.output.Write(p) }

// CloseWrite closes the WebSocket after everything that the door has written is sent.
func (c *socketConn) CloseWrite() error {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	if c.client != nil {
		c.client.capReads()
	}
	return c.output.Close()
}

// Close closes the WebSocket: after CloseWrite when its close frame was sent, otherwise at once.
func (c *socketConn) Close() error {
	if c.isLeaving() {
		patience := time.NewTimer(c.server.limits.WriteTimeout)
		defer patience.Stop()
		select {
		case <-c.ended:
		case <-patience.C: // the client does not read
		}
	}
	err := c.ws.CloseNow()
	for _, end := range []net.Conn{c.Conn, c.output, c.input, c.outputEnd} {
		_ = end.Close()
	}
	return err
}

// RemoteAddr returns the address of the client.
func (c *socketConn) RemoteAddr() net.Addr { return c.remote }

// SetWriteDeadline sets the deadline of Write.
func (c *socketConn) SetWriteDeadline(t time.Time) error { return c.output.SetWriteDeadline(t) }

// SetDeadline sets the deadlines of Read and Write.
func (c *socketConn) SetDeadline(t time.Time) error {
	_ = c.output.SetWriteDeadline(t)
	return c.Conn.SetReadDeadline(t)
}
