package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/line"
)

const (
	// pageSize is how many tasks are listed, and then read, together.
	pageSize = 200
	// answerTime is the timeout of one page.
	answerTime = time.Minute
)

// readers is how many connections read tasks at once.
const readers = 8

// harvest reads every task with its history.
func harvest(ctx context.Context, addr string) ([]history.Record, error) {
	in, err := newReader(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	all, err := in.list()
	if err != nil || len(all) == 0 {
		return all, err
	}
	ended, parts := make(chan error), 0
	for part := range slices.Chunk(all, (len(all)+readers-1)/readers) {
		parts++
		go func() { ended <- detail(ctx, addr, part) }()
	}
	for range parts {
		err = errors.Join(err, <-ended)
	}
	return all, err
}

// detail reads, over its own connection, what a list leaves out of some tasks.
func detail(ctx context.Context, addr string, tasks []history.Record) error {
	in, err := newReader(ctx, addr)
	if err != nil {
		return err
	}
	defer in.Close()
	return in.details(tasks)
}

// reader reads tasks from the system.
type reader struct{ *line.Conn }

func newReader(ctx context.Context, addr string) (reader, error) {
	conn, err := line.Dial(ctx, addr, answerTime)
	return reader{conn}, err
}

// left returns the number of unfinished tasks.
func (r reader) left() (n int, err error) {
	var reply struct {
		Result struct {
			OK     bool
			Queues []struct{ Scheduled, Queued, Running int }
		}
	}
	if _, err := r.Ask(&reply, `{"op":"queues"}`); err != nil {
		return 0, err
	}
	if !reply.Result.OK {
		return 0, fmt.Errorf("queues are refused")
	}
	for _, q := range reply.Result.Queues {
		n += q.Scheduled + q.Queued + q.Running
	}
	return n, nil
}

// list reads every task, as a list shows it.
func (r reader) list() (all []history.Record, err error) {
	for cursor := ""; ; {
		var reply struct {
			Error  string
			Result struct {
				Tasks  []history.Record
				Cursor string
			}
		}
		more := ""
		if cursor != "" {
			more = fmt.Sprintf(`,"cursor":%q`, cursor)
		}
		if _, err := r.Ask(&reply, `{"op":"list","limit":%d%s}`, pageSize, more); err != nil {
			return nil, err
		}
		if reply.Error != "" {
			return nil, fmt.Errorf("list: %s", reply.Error)
		}
		all = append(all, reply.Result.Tasks...)
		if cursor = reply.Result.Cursor; cursor == "" {
			return all, nil
		}
	}
}

// details adds what a list leaves out: payload, result and history.
func (r reader) details(tasks []history.Record) error {
	for i := range tasks {
		t := &tasks[i]
		id, final := t.Task, t.Status
		*t = history.Record{}
		if _, err := r.Ask(t, `{"op":"get","task":%q,"payload":true}`, id); err != nil {
			return fmt.Errorf("task %s: %w", id, err)
		}
		if !isFinal(final) {
			continue // a watch would not end
		}
		if err := r.Send(`{"op":"watch","task":%q,"after":0}`, id); err != nil {
			return err
		}
		for ends := 0; ends <= t.Generation; { // each generation has one final state
			var e history.Entry
			if _, err := r.Next(&e); err != nil {
				return fmt.Errorf("the history of task %s: %w", id, err)
			}
			if e.Status == "error" {
				return fmt.Errorf("the history of task %s: %s", id, e.Error)
			}
			if isFinal(e.Status) {
				ends++
			}
			t.Entries = append(t.Entries, e)
		}
	}
	return nil
}

func isFinal(status string) bool {
	return status == "done" || status == "failed" || status == "cancelled"
}
