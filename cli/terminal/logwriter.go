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
	// logBytes is how many bytes of lines may wait for a slow reader of the log.
	logBytes = 1 << 20
	// logPatience is how long the program waits at its end until the last lines are written.
	logPatience = time.Second
)

// LogWriter is a writer for logs that never blocks its callers: its own goroutine writes the lines. If the log is
// read too slowly, or not at all, LogWriter drops lines and counts them. The next line that it can write says how
// many. It is safe for concurrent use.
type LogWriter struct {
	to      io.Writer
	mu      sync.Mutex // guards the fields below
	changed *sync.Cond
	waiting [][]byte
	bytes   int // total size of waiting
	dropped int64
	writing bool
}

// NewLogWriter returns a LogWriter that writes to another writer. Its goroutine runs until the program ends.
func NewLogWriter(to io.Writer) *LogWriter {
	a := &LogWriter{to: to}
	a.changed = sync.NewCond(&a.mu)
	go a.run()
	return a
}

// Write adds a line, or drops it. It never fails.
func (a *LogWriter) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bytes+len(p) > logBytes {
		a.dropped++
		return len(p), nil
	}
	a.waiting = append(a.waiting, append([]byte(nil), p...))
	a.bytes += len(p)
	a.changed.Broadcast()
	return len(p), nil
}

// run writes the lines.
func (a *LogWriter) run() {
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

// Dropped returns how many lines were dropped since the last line that reported it.
func (a *LogWriter) Dropped() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}

// Flush waits until all lines are written, but not longer than logPatience.
func (a *LogWriter) Flush() {
	over := false
	timer := time.AfterFunc(logPatience, func() {
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

// LogWithoutBlocking lets a server continue when nobody reads its log any more: `posta up 2>&1 | tee log`
// continues, and drains, after tee has ended. It replaces Stderr by a LogWriter, and makes a pipe without a reader
// an error instead of a signal. Processes that the server starts are not affected.
func (o *Outside) LogWithoutBlocking() {
	if _, is := o.Stderr.(*LogWriter); is {
		return
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	o.Stderr = NewLogWriter(o.Stderr)
}

// Flush waits a short time until everything is written to Stderr.
func (o *Outside) Flush() {
	if a, is := o.Stderr.(*LogWriter); is {
		a.Flush()
	}
}

// terminalFile returns the file of a stream, or nil if it has none.
func terminalFile(w io.Writer) *os.File {
	if a, is := w.(*LogWriter); is {
		w = a.to
	}
	file, _ := w.(*os.File)
	return file
}
