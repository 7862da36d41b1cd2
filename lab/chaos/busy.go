package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

const (
	// untilBusy is how long a kill waits until a task runs in its process.
	untilBusy = 3 * time.Second
	// lookBusy is how often the journal is checked for this, and recent how many bytes of its end are read.
	lookBusy = 10 * time.Millisecond
	recent   = 64 << 10
)

// kill kills a process while it runs a task, or after untilBusy if it runs none. The death of an idle process proves
// little.
func (sys *system) kill(ctx context.Context, n *node) error {
	limited, cancel := context.WithTimeout(ctx, untilBusy)
	defer cancel()
	_ = n.awaitUp(limited) // after this time, it is killed anyway
	for limited.Err() == nil && !sys.isBusy(n.pid()) {
		select {
		case <-time.After(lookBusy):
		case <-limited.Done():
		}
	}
	return n.kill(ctx)
}

// isBusy reports whether a process has an execution in the journal without an end.
func (sys *system) isBusy(pid int) bool {
	file, err := os.Open(sys.journal)
	if err != nil {
		return false // no task has run yet
	}
	defer file.Close()
	_, _ = file.Seek(-recent, io.SeekEnd) // a shorter journal is read from its beginning
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
