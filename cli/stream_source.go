package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// batchLines is how many lines are handed over at once, to spare hand-overs.
	batchLines = 64
	// heldBytes bounds the tasks that were read and not answered: as many as may be
	// open have room when they are small, and large ones wait.
	heldBytes = 64 << 20
)

// origin is where a task comes from.
type origin struct {
	line int    // in the file, from 1
	id   []byte // raw JSON
	size int64  // bytes that it holds
}

// sourced is a task of the file, ready to be sent.
type sourced struct {
	origin
	request client.EnqueueRequest // of which a run has the action, the payload and the timeout
}

// A source reads the tasks of a file, line by line, and no further than they are
// taken.
type source struct {
	name     string // of the file, for messages
	op       wire.Op
	defaults client.EnqueueOptions                 // for tasks that say nothing else
	refused  func(line int, id []byte, why string) // told of each line that cannot be sent

	lines   atomic.Int64 // read so far
	bytes   atomic.Int64 // read so far
	batches chan []sourced
	held    *semaphore.Weighted

	request wire.Request
	pending []sourced
	err     error // why the reading ended early; valid when batches is closed
}

// tasks returns the tasks for a client's stream. It ends with ctx, even while stdin has
// nothing to give.
func (s *source) tasks(ctx context.Context, file io.Reader) iter.Seq2[origin, client.EnqueueRequest] {
	s.batches, s.held = make(chan []sourced), semaphore.NewWeighted(heldBytes)
	go s.read(ctx, file) // may wait on stdin for ever, so nobody waits for it
	return func(yield func(origin, client.EnqueueRequest) bool) {
		for t := range s.each(ctx) {
			if s.held.Acquire(ctx, t.size) != nil || !yield(t.origin, t.request) {
				return
			}
		}
	}
}

// each takes the batches apart.
func (s *source) each(ctx context.Context) iter.Seq[sourced] {
	return func(yield func(sourced) bool) {
		for batch := s.next(ctx); len(batch) > 0; batch = s.next(ctx) {
			for _, t := range batch {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// next waits for a batch; none means that there are no more, or that ctx has ended.
func (s *source) next(ctx context.Context) []sourced {
	select {
	case batch := <-s.batches:
		return batch
	case <-ctx.Done():
		return nil
	}
}

// answered makes room for other tasks.
func (s *source) answered(o origin) { s.held.Release(o.size) }

// read hands out the lines until the file or ctx ends, then closes the channel.
func (s *source) read(ctx context.Context, file io.Reader) {
	defer close(s.batches)
	input := bufio.NewReaderSize(file, task.DefaultLine+2) // with its \r\n
	for number := 1; ; number++ {
		line, err := input.ReadSlice('\n')
		s.bytes.Add(int64(len(line)))
		if errors.Is(err, bufio.ErrBufferFull) {
			err = s.skipLong(input, number)
		} else if len(line) > 0 {
			s.take(number, line)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			s.err = fmt.Errorf("%s:%d: %w", s.name, number, err)
		}
		if len(s.pending) >= batchLines || err != nil || !whole(input) {
			if !s.deliver(ctx) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// whole reports whether the next line can be read without waiting for it.
func whole(input *bufio.Reader) bool {
	text, err := input.Peek(input.Buffered())
	return err == nil && bytes.IndexByte(text, '\n') >= 0
}

// deliver hands the pending lines over.
func (s *source) deliver(ctx context.Context) bool {
	if len(s.pending) == 0 {
		return ctx.Err() == nil
	}
	select {
	case s.batches <- s.pending:
		s.pending = make([]sourced, 0, batchLines)
		return true
	case <-ctx.Done():
		return false
	}
}

// skipLong reads to the end of a line that is too long.
func (s *source) skipLong(input *bufio.Reader, number int) error {
	s.lines.Add(1)
	s.refused(number, nil, "the line is longer than 1 MiB")
	for {
		more, err := input.ReadSlice('\n')
		s.bytes.Add(int64(len(more)))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// take checks a line and puts its task into the pending batch. Blank lines are
// skipped. A task without an id gets the number of its line as its id, so that its
// reply can be told from the others.
func (s *source) take(number int, line []byte) {
	if number == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return
	}
	s.lines.Add(1)
	line = bytes.Clone(line) // the request points into it
	r := &s.request
	request, err := s.parse(line)
	if err != nil {
		s.refused(number, r.ID, err.Error())
		return
	}
	t := sourced{origin{line: number, id: r.ID, size: int64(len(line))}, request}
	if t.id == nil {
		t.id = strconv.AppendInt(nil, int64(number), 10)
	}
	s.pending = append(s.pending, t)
}

// parse reads a line as the server would.
func (s *source) parse(line []byte) (client.EnqueueRequest, error) {
	r := &s.request
	err := r.Parse(line, s.op)
	if err == nil && r.Op != s.op {
		err = task.RefuseField(task.InvalidRequest, "op", "op %s cannot be streamed here, only %s", r.Op, s.op)
	}
	if err == nil {
		err = r.Validate()
	}
	o := &r.Options
	switch {
	case err == nil && o.Wait:
		err = task.RefuseField(task.InvalidRequest, "wait", "wait cannot be streamed, since a stream ends when all is accepted")
	case err == nil && o.PayloadBlob != nil:
		err = task.RefuseField(task.InvalidRequest, "payload_blob", "payload_blob cannot be streamed, only payload")
	}
	if err != nil {
		return client.EnqueueRequest{}, err
	}
	options := client.EnqueueOptions{
		Queue: o.Queue, Priority: o.Priority, Delay: o.Delay, RunAt: o.RunAt, Expires: o.Expires,
		Timeout: r.Timeout, MaxAttempts: o.MaxAttempts, Backoff: o.Backoff, BackoffMax: o.BackoffMax,
		Key: o.Key, Keep: o.Keep, KeepFailed: o.KeepFailed,
	}
	if o.Meta != nil {
		if err := json.Unmarshal(o.Meta, &options.Meta); err != nil {
			return client.EnqueueRequest{}, err
		}
	}
	s.complete(&options)
	return client.EnqueueRequest{Action: string(r.Action), Payload: r.Payload, EnqueueOptions: options}, nil
}

// complete fills what a line leaves out.
func (s *source) complete(o *client.EnqueueOptions) {
	d := &s.defaults
	o.Queue, o.Priority = cmp.Or(o.Queue, d.Queue), cmp.Or(o.Priority, d.Priority)
	o.Expires, o.Timeout, o.Keep = cmp.Or(o.Expires, d.Expires), cmp.Or(o.Timeout, d.Timeout), cmp.Or(o.Keep, d.Keep)
	o.MaxAttempts, o.KeepFailed = cmp.Or(o.MaxAttempts, d.MaxAttempts), cmp.Or(o.KeepFailed, d.KeepFailed)
	o.Backoff, o.BackoffMax = cmp.Or(o.Backoff, d.Backoff), cmp.Or(o.BackoffMax, d.BackoffMax)
	if o.Delay == 0 && o.RunAt.IsZero() {
		o.Delay, o.RunAt = d.Delay, d.RunAt
	}
	if o.Meta == nil {
		o.Meta = d.Meta
	}
}
