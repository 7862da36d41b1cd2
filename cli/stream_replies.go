package cli

import (
	"io"
	"sync"
)

// replyBytes is how many bytes a replyWriter buffers at most.
const replyBytes = 64 << 10

// replyWriter writes reply lines soon: it joins lines that come quickly into one write, but does not hold back a
// single line.
type replyWriter struct {
	mu     sync.Mutex // guards the fields below; held during writes to w
	w      io.Writer
	text   []byte
	err    error
	wake   chan struct{} // its capacity is 1
	closed sync.WaitGroup
}

func newReplyWriter(w io.Writer) *replyWriter {
	r := &replyWriter{w: w, wake: make(chan struct{}, 1)}
	r.closed.Go(func() {
		for range r.wake {
			r.mu.Lock()
			r.flush()
			r.mu.Unlock()
		}
	})
	return r
}

// write adds a line. The error may be that of an earlier line.
func (r *replyWriter) write(line []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, line...)
	if len(r.text) >= replyBytes {
		r.flush()
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return r.err
}

// flush writes the buffer. The caller holds mu.
func (r *replyWriter) flush() {
	if r.err == nil && len(r.text) > 0 {
		_, r.err = r.w.Write(r.text)
	}
	r.text = r.text[:0]
}

// close writes the rest. Nothing may be written afterwards.
func (r *replyWriter) close() error {
	close(r.wake)
	r.closed.Wait()
	r.flush()
	return r.err
}
