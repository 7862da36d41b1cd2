package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"sync"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

const (
	// window is the largest number of open requests of a connection, including waits.
	window = 48
	// farewell is how long the last connections may take to answer everything.
	farewell = 2 * time.Minute
	// unwritten is the timeout of one write.
	unwritten = 20 * time.Second
)

// session is one connection.
type session struct {
	*Load
	number int
	conn   *net.TCPConn
	broken chan struct{} // closed when reading has ended
	away   chan struct{} // closed when the node has sent goaway
	room   chan struct{} // has one element for each open request

	mu   sync.Mutex // guards the fields below
	open map[int]*request
	over bool // open requests were recorded as unknown
}

// dial connects. It returns nil if it cannot.
func (l *Load) dial(ctx context.Context) *session {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	number := int(l.sessions.Add(1))
	conn, err := dialer.DialContext(ctx, "tcp", l.config.Addrs[number%len(l.config.Addrs)])
	if err != nil {
		return nil
	}
	s := &session{
		Load: l, number: number, conn: conn.(*net.TCPConn),
		broken: make(chan struct{}), away: make(chan struct{}), room: make(chan struct{}, window), open: map[int]*request{},
	}
	go s.read()
	return s
}

// send writes requests in one write. It returns false if the connection is broken.
func (s *session) send(ctx context.Context, list ...request) bool {
	var lines []byte
	for i := range list {
		r := &list[i]
		select {
		case s.room <- struct{}{}:
		case <-s.broken:
			return false
		case <-ctx.Done():
			return false
		}
		r.ID = int(s.requests.Add(1))
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // a request is plain data
		}
		if !s.begin(r) {
			return false
		}
		lines = append(append(lines, line...), '\n')
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(unwritten))
	_, err := s.conn.Write(lines)
	return err == nil
}

// begin records a request that is about to be sent. It returns false if the connection has ended.
func (s *session) begin(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.open[r.ID] = r
	s.note(history.Event{Conn: s.number, ID: r.ID, Kind: history.Invoke, Ask: r.ask()})
	return true
}

// read receives replies until the connection ends. Then it records the open requests as unknown.
func (s *session) read() {
	defer s.conn.Close()
	in := bufio.NewReaderSize(s.conn, 64<<10)
	why := "closed"
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			why = err.Error()
			break
		}
		s.received(bytes.TrimSpace(line))
	}
	s.mu.Lock()
	s.over = true
	for id := range s.open {
		s.note(history.Event{Conn: s.number, ID: id, Kind: history.Info, Note: why})
	}
	s.mu.Unlock()
	close(s.broken)
}

// received records a reply.
func (s *session) received(line []byte) {
	var head struct {
		ID *int `json:"id"`
		history.Reply
	}
	if err := json.Unmarshal(line, &head); err != nil {
		s.note(history.Event{Conn: s.number, Kind: history.Stray, Note: string(line)})
		return
	}
	reply := head.Reply
	if head.ID == nil && reply.Status == "error" && reply.Code == "unavailable" {
		return // the balancer reaches no node, and ends the connection
	}
	if head.ID == nil {
		if reply.Status != "goaway" || isClosed(s.away) {
			s.note(history.Event{Conn: s.number, Kind: history.Stray, Note: string(line)})
			return
		}
		close(s.away)
		return
	}
	s.mu.Lock()
	r := s.open[*head.ID]
	last := r != nil && (!r.Wait || final(reply.Status))
	if last {
		delete(s.open, *head.ID)
	}
	s.mu.Unlock()
	event := history.Event{Conn: s.number, ID: *head.ID, Kind: kindOf(r, &reply), Reply: &reply}
	if r == nil {
		event.Note = string(line)
	}
	if r != nil && (r.Op == "list" || r.Op == "queues") {
		reply.Result = nil // only that there was one
	}
	s.note(event)
	if last {
		<-s.room
	}
	switch {
	case r == nil || r.Op != "enqueue" || event.Kind != history.OK:
	case r.poisonous():
		s.known.paid(r)
	default:
		s.known.addTask(reply.Task, r.long)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// kindOf returns the kind of a reply to a request.
func kindOf(r *request, reply *history.Reply) history.Kind {
	switch {
	case r == nil:
		return history.Stray
	case reply.Status != "error":
		return history.OK
	case reply.Code == "unknown_outcome":
		return history.Info
	}
	return history.Fail
}

// final reports whether a reply ends a request that waits.
func final(status string) bool {
	return status == "done" || status == "failed" || status == "cancelled" || status == "error"
}

// leave closes the writing side and waits for the open replies.
func (s *session) leave(ctx context.Context) {
	_ = s.conn.CloseWrite()
	select {
	case <-s.broken:
		return
	case <-ctx.Done():
	case <-time.After(farewell):
	}
	s.conn.Close()
	<-s.broken
}
