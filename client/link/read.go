package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	firstBuffer = 16 << 10 // holds the replies of a full window of small tasks
	keptBuffer  = 64 << 10 // a larger one is given back once it is empty
)

// lineReader cuts what a connection sends into lines.
type lineReader struct {
	from       io.Reader
	limit      int // bytes of a line
	buffer     []byte
	start, end int // what is in the buffer
	searched   int // up to where there is no line feed
}

// next gives a line that has come already, without its ending.
func (r *lineReader) next() (line []byte, ok bool) {
	length := bytes.IndexByte(r.buffer[r.searched:r.end], '\n')
	if length < 0 {
		r.searched = r.end
		return nil, false
	}
	line = r.buffer[r.start : r.searched+length]
	r.start = r.searched + length + 1
	r.searched = r.start
	return bytes.TrimSuffix(line, []byte("\r")), true
}

// more reads once. Lines that next gave are not valid any more.
func (r *lineReader) more() error {
	if r.start == r.end {
		r.start, r.end, r.searched = 0, 0, 0
		if len(r.buffer) > keptBuffer {
			r.buffer = nil
		}
	}
	if r.end == len(r.buffer) {
		if err := r.makeRoom(); err != nil {
			return err
		}
	}
	count, err := r.from.Read(r.buffer[r.end:])
	r.end += count
	if count > 0 {
		return nil
	}
	return err
}

// makeRoom moves the unfinished line to the front, or gets a larger buffer for it.
func (r *lineReader) makeRoom() error {
	held := r.end - r.start
	if held > r.limit {
		return tooLong(r.limit)
	}
	if held > len(r.buffer)/2 || len(r.buffer) == 0 {
		larger := make([]byte, max(firstBuffer, min(2*len(r.buffer), r.limit+1)))
		copy(larger, r.buffer[r.start:r.end])
		r.buffer = larger
	} else {
		copy(r.buffer, r.buffer[r.start:r.end])
	}
	r.searched -= r.start
	r.start, r.end = 0, held
	return nil
}

func tooLong(limit int) error {
	return fmt.Errorf("the server sent a reply longer than the %d bytes that are read", limit)
}

// read serves the connection until it is over.
func (n *conn) read() {
	reason := n.readReplies()
	if n.said != nil {
		reason = n.said
	}
	n.end(reason)
}

// readReplies hands replies to their calls and says why it stopped.
func (n *conn) readReplies() error {
	var reply wire.Reply
	used := n.lastIDNow()
	_ = n.net.SetReadDeadline(time.Now().Add(n.set.cfg.Idle))
	for {
		for line, ok := n.lines.next(); ok; line, ok = n.lines.next() {
			if len(line) == 0 {
				continue
			}
			if err := n.handle(&reply, line); err != nil {
				return err
			}
		}
		n.set.roomAgain()
		if n.finished() {
			return errLeft
		}
		err := n.lines.more()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = n.idle(&used)
		}
		if err != nil {
			return readError(err)
		}
	}
}

// handle takes one line.
func (n *conn) handle(reply *wire.Reply, line []byte) error {
	if len(line) > n.lines.limit {
		return tooLong(n.lines.limit)
	}
	if err := reply.Parse(line); err != nil {
		return fmt.Errorf("the server sent what cannot be understood: %w", err)
	}
	if reply.Status == wire.StatusGoaway {
		n.leave(errLeft)
		return nil
	}
	if reply.ID == nil && reply.Status == wire.StatusError {
		// The server closes after this, which says why; what is due before may
		// still come.
		n.said = &refusedError{reply.Refusal()}
		n.leave(n.said)
		return nil
	}
	id, ok := replyID(reply.ID)
	k, known, last := n.answer(id, reply)
	if !ok || !known {
		return fmt.Errorf("the server sent a reply with the unknown id %q", reply.ID)
	}
	if !n.useful && k != nil {
		n.useful = true
		n.set.proved()
	}
	switch {
	case k == nil:
	case last:
		n.deliver(k, reply, line)
	default:
		k.Heard(bytes.Clone(line))
	}
	return nil
}

// deliver gives a call its reply, or the last line of it.
func (n *conn) deliver(k *Call, reply *wire.Reply, line []byte) {
	switch {
	case reply.Status == wire.StatusDone && reply.Result != nil && k.Shape == Object:
		k.Result = bytes.Clone(reply.Result)
		k.settle(Answered, nil)
	case reply.Status == wire.StatusError:
		refusal := reply.Refusal()
		if refusal.Code == task.Draining {
			n.leave(errLeft)
		}
		k.settle(Answered, refusal)
	case k.Shape != Object:
		k.Result = bytes.Clone(line)
		k.settle(Answered, nil)
	default:
		k.settle(Failed, fmt.Errorf("the server sent a reply of the unexpected status %s", reply.Status))
	}
}

// finished tells whether the connection leaves and nothing more is due on it, but what
// may take long and nobody waits for.
func (n *conn) finished() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leaving && len(n.pending) == n.forsaken
}

func (n *conn) lastIDNow() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastID
}

// idle is called when nothing was read for a while: used is the last id at the
// time before. A connection that was used since, or waits for a reply, goes on.
func (n *conn) idle(used *uint64) error {
	n.mu.Lock()
	if n.cause != nil {
		n.mu.Unlock()
		return errEnded
	}
	if n.leaving && n.wanted == 0 {
		n.mu.Unlock()
		return errMute
	}
	unused := n.lastID == *used && len(n.pending) == 0
	*used = n.lastID
	_ = n.net.SetReadDeadline(time.Now().Add(n.set.cfg.Idle))
	n.mu.Unlock()
	if unused {
		n.leave(errIdle)
		if n.finished() {
			return errIdle
		}
	}
	return nil
}

// readError says kindly what ended the reading.
func readError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return errEnded
	case errors.Is(err, net.ErrClosed):
		return errEnded
	}
	return fmt.Errorf("the connection broke: %w", err)
}

// replyID reads an id of ours.
func replyID(raw []byte) (id uint64, ok bool) {
	if len(raw) == 0 || len(raw) > 18 {
		return 0, false
	}
	for _, c := range raw {
		if c-'0' > 9 {
			return 0, false
		}
		id = id*10 + uint64(c-'0')
	}
	return id, true
}
