package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

const (
	// untilBusy is how long a kill waits for something to run on its node.
	untilBusy = 3 * time.Second
	// lookBusy is how often that is looked at, and recent how much of the journal is, in bytes.
	lookBusy = 10 * time.Millisecond
	recent   = 64 << 10
)

// kill kills a node while something runs on it, or after a moment if nothing does: a node that is idle
// loses nothing.
func (b *system) kill(ctx context.Context, s schedule.Step) error {
	n := b.nodes[s.Target]
	limited, cancel := context.WithTimeout(ctx, untilBusy)
	defer cancel()
	_ = n.awaitUp(limited) // the time may be over: then it is killed as it is
	for limited.Err() == nil && !b.isBusy(n.pid()) {
		select {
		case <-time.After(lookBusy):
		case <-limited.Done():
		}
	}
	return n.kill(ctx)
}

// isBusy tells whether the journal has an execution of a process that has not ended.
func (b *system) isBusy(pid int) bool {
	file, err := os.Open(b.journal)
	if err != nil {
		return false // nothing has run yet
	}
	defer file.Close()
	_, _ = file.Seek(-recent, io.SeekEnd) // a journal that is shorter is read from its beginning
	text, err := io.ReadAll(file)
	if err != nil {
		return false
	}
	open := map[string]int{}
	for line := range bytes.Lines(text) {
		var x history.Execution
		if json.Unmarshal(line, &x) != nil || x.PID != pid {
			continue
		}
		if x.How == history.Start {
			open[x.Task] = x.Attempt
		} else if open[x.Task] == x.Attempt {
			delete(open, x.Task)
		}
	}
	return len(open) > 0
}
