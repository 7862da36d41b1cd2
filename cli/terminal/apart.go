package terminal

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	// apartBytes bounds the lines that wait for whoever reads a log.
	apartBytes = 1 << 20
	// apartPatience is how long the end of a program waits for its last lines to be written.
	apartPatience = time.Second
)

// Apart is a writer for logs that never holds up its callers: a goroutine of its own writes what they hand in.
// When nobody reads the log, or reads it too slowly, lines are dropped, and counted; a line says how many when the
// log can be written again. It is safe for concurrent use.
type Apart struct {
	to      io.Writer
	mu      sync.Mutex // guards all below
	changed *sync.Cond
	waiting [][]byte
	bytes   int // of waiting
	dropped int64
	writing bool
}

// NewApart makes a writer in front of another one, and starts its goroutine, which lives as long as the program.
func NewApart(to io.Writer) *Apart {
	a := &Apart{to: to}
	a.changed = sync.NewCond(&a.mu)
	go a.run()
	return a
}

// Write takes a line, or drops it. It never fails.
func (a *Apart) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bytes+len(p) > apartBytes {
		a.dropped++
		return len(p), nil
	}
	a.waiting = append(a.waiting, append([]byte(nil), p...))
	a.bytes += len(p)
	a.changed.Broadcast()
	return len(p), nil
}

// run writes lines as they come.
func (a *Apart) run() {
	for {
		a.mu.Lock()
		for len(a.waiting) == 0 {
			a.changed.Wait()
		}
		line := a.waiting[0]
		a.waiting, a.writing = a.waiting[1:], true
		a.mu.Unlock()
		_, err := a.to.Write(line)
		a.mu.Lock()
		a.bytes -= len(line)
		a.writing = false
		if err != nil {
			a.dropped++
		} else if a.dropped > 0 {
			text := fmt.Appendf(nil, "posta: warning: %d lines of the log were dropped, since nobody read them\n", a.dropped)
			a.waiting, a.bytes, a.dropped = append([][]byte{text}, a.waiting...), a.bytes+len(text), 0
		}
		a.changed.Broadcast()
		a.mu.Unlock()
	}
}

// Dropped returns how many lines have been dropped since the last line about them.
func (a *Apart) Dropped() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}

// Flush waits until all that was handed in is written, a moment at most.
func (a *Apart) Flush() {
	over := false
	timer := time.AfterFunc(apartPatience, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		over = true
		a.changed.Broadcast()
	})
	defer timer.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for (len(a.waiting) > 0 || a.writing) && !over {
		a.changed.Wait()
	}
}

// LogApart keeps a server at work when nobody reads its log any more: `posta up 2>&1 | tee log` goes on, and drains,
// after tee has ended. From then on Stderr is an Apart, and a pipe without a reader is an error and no signal.
// Processes that the server starts are not affected.
func (o *Outside) LogApart() {
	if _, is := o.Stderr.(*Apart); is {
		return
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	o.Stderr = NewApart(o.Stderr)
}

// Flush waits a moment for what was written to Stderr.
func (o *Outside) Flush() {
	if a, is := o.Stderr.(*Apart); is {
		a.Flush()
	}
}

// terminalFile returns the file that a stream is, or is written to; nil when it is none.
func terminalFile(w io.Writer) *os.File {
	if a, is := w.(*Apart); is {
		w = a.to
	}
	file, _ := w.(*os.File)
	return file
}
