package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// pipe is a log whose reader reads when the test says so.
type pipe struct {
	open  chan struct{} // closed: it is read
	begun chan struct{} // one value: a write waits for the reader
	mu    sync.Mutex
	text  bytes.Buffer
	err   error
}

func (p *pipe) Write(line []byte) (int, error) {
	select {
	case p.begun <- struct{}{}:
	default:
	}
	<-p.open
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	return p.text.Write(line)
}

func TestALogThatIsNotReadLosesLinesButDelaysNoWork(t *testing.T) {
	t.Parallel()
	p := &pipe{open: make(chan struct{}), begun: make(chan struct{}, 1)}
	log := NewLogWriter(p)
	const lines, size = 5_000, 1_000 // more than wait
	for i := range lines {
		fmt.Fprintf(log, "%0*d\n", size-1, i) // it would block here
	}
	<-p.begun
	dropped := log.Dropped()
	if dropped < lines-logBytes/size-1 || dropped >= lines {
		t.Errorf("%d of %d lines were dropped", dropped, lines)
	}
	close(p.open)
	log.Flush()
	fmt.Fprintln(log, "the last one")
	log.Flush()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.text.String()
	if want := fmt.Sprintf("posta: warning: %d lines of the log were dropped", dropped); !strings.Contains(text, want) || !strings.HasSuffix(text, "the last one\n") {
		t.Errorf("there is no %q, or not the last line", want)
	}
	if written := strings.Count(text, "\n") - 2; int64(written)+dropped != lines {
		t.Errorf("%d lines were written and %d dropped, of %d", written, dropped, lines)
	}
}

func TestALogThatCannotBeWrittenDelaysNoCaller(t *testing.T) {
	t.Parallel()
	p := &pipe{open: make(chan struct{}), begun: make(chan struct{}, 1), err: errors.New("broken pipe")}
	close(p.open)
	log := NewLogWriter(p)
	for range 100 {
		fmt.Fprintln(log, "a line")
	}
	log.Flush()
	if got := log.Dropped(); got != 100 {
		t.Errorf("%d lines were counted, want 100", got)
	}
}
