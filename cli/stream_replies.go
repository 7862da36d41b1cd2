package cli

import (
	"io"
	"sync"
)

// replyBytes is how much a replyWriter holds back at most.
const replyBytes = 64 << 10

// A replyWriter writes reply lines soon, many in one write when they come fast. A line
// that comes alone is not held back for others.
type replyWriter struct {
	mu     sync.Mutex // guards what follows; held while w is written to
	w      io.Writer
	text   []byte
	err    error
	wake   chan struct{} // holds one
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

// write takes a line. The error is that of an earlier one.
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

// flush writes what was held back; the lock must be held.
func (r *replyWriter) flush() {
	if r.err == nil && len(r.text) > 0 {
		_, r.err = r.w.Write(r.text)
	}
	r.text = r.text[:0]
}

// close writes the rest. Nothing may be written after it.
func (r *replyWriter) close() error {
	close(r.wake)
	r.closed.Wait()
	r.flush()
	return r.err
}
