package client

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
	keptBuffer  = 64 << 10 // a larger one is released once it is empty
)

// lineReader splits the bytes of a connection into lines.
type lineReader struct {
	from       io.Reader
	limit      int // longest line, in bytes
	buffer     []byte
	start, end int // the unread part of the buffer
	searched   int // there is no line feed from start to here
}

// next returns a line that has already been read, without its ending. It is valid until
// more is called.
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

// more reads once.
func (r *lineReader) more() error {
	if r.start == r.end {
		r.start, r.end, r.searched = 0, 0, 0
		if len(r.buffer) > keptBuffer {
			r.buffer = nil
		}
	}
	if r.end == len(r.buffer) {
		if err := r.grow(); err != nil {
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

// grow moves the unfinished line to the front of the buffer, or to a larger buffer.
func (r *lineReader) grow() error {
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
	return fmt.Errorf("the server sent a reply longer than %d bytes", limit)
}

// read reads replies until the connection ends, then completes its calls.
func (n *conn) read() {
	reason := n.readReplies()
	if n.refusal != nil {
		reason = n.refusal
	}
	n.end(reason)
}

// readReplies passes replies to their calls, and returns why it stopped.
func (n *conn) readReplies() error {
	var reply wire.Reply
	used := n.lastIDNow()
	_ = n.net.SetReadDeadline(time.Now().Add(n.pool.cfg.Idle))
	for {
		for line, ok := n.lines.next(); ok; line, ok = n.lines.next() {
			if len(line) == 0 {
				continue
			}
			if err := n.handle(&reply, line); err != nil {
				return err
			}
		}
		n.pool.feedWaiting()
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

// handle handles one line.
func (n *conn) handle(reply *wire.Reply, line []byte) error {
	if len(line) > n.lines.limit {
		return tooLong(n.lines.limit)
	}
	if err := reply.Parse(line); err != nil {
		return fmt.Errorf("the server sent an invalid reply: %w", err)
	}
	if reply.Status == wire.StatusGoaway {
		n.leave(errLeft)
		return nil
	}
	if reply.ID == nil && reply.Status == wire.StatusError {
		// This is why the server closes the connection. Earlier replies may still
		// arrive.
		n.refusal = &refusedConnError{reply.Refusal()}
		n.leave(n.refusal)
		return nil
	}
	id, ok := replyID(reply.ID)
	k, known, last := n.answer(id, reply)
	if !ok || !known {
		return fmt.Errorf("the server sent a reply with the unknown id %q", reply.ID)
	}
	if !n.useful && k != nil {
		n.useful = true
		n.pool.noteSuccess()
	}
	switch {
	case k == nil:
	case last:
		n.deliver(k, reply, line)
	default:
		k.received(bytes.Clone(line))
	}
	return nil
}

// deliver completes a call with the last line of its reply.
func (n *conn) deliver(k *call, reply *wire.Reply, line []byte) {
	switch {
	case reply.Status == wire.StatusDone && reply.Result != nil && k.shape == shapeObject:
		k.result = bytes.Clone(reply.Result)
		k.complete(answered, nil)
	case reply.Status == wire.StatusError:
		refusal := reply.Refusal()
		if refusal.Code == task.Draining {
			n.leave(errLeft)
		}
		k.complete(answered, refusal)
	case k.shape != shapeObject:
		k.result = bytes.Clone(line)
		k.complete(answered, nil)
	default:
		k.complete(failed, fmt.Errorf("the server sent a reply with the unexpected status %s", reply.Status))
	}
}

// finished reports whether the connection is leaving and only abandoned long-lived calls
// are pending.
func (n *conn) finished() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leaving && len(n.pending) == n.abandoned
}

func (n *conn) lastIDNow() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastID
}

// idle is called when nothing was read for a while. used is lastID at the previous call. A
// connection that was used since then, or that waits for a reply, stays in use.
func (n *conn) idle(used *uint64) error {
	n.mu.Lock()
	if n.cause != nil {
		n.mu.Unlock()
		return errEnded
	}
	if n.leaving && n.wanted == 0 {
		n.mu.Unlock()
		return errSilent
	}
	unused := n.lastID == *used && len(n.pending) == 0
	*used = n.lastID
	_ = n.net.SetReadDeadline(time.Now().Add(n.pool.cfg.Idle))
	n.mu.Unlock()
	if unused {
		n.leave(errIdle)
		if n.finished() {
			return errIdle
		}
	}
	return nil
}

// readError returns the error for the callers after an error of Read.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return errEnded
	}
	return fmt.Errorf("the connection broke: %w", err)
}

// replyID parses an id. It returns false for an id that the client cannot have sent.
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
