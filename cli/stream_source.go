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
	// batchLines is how many lines are passed to the sender at once, since each hand-over costs time.
	batchLines = 64
	// heldBytes is how many bytes of read and unanswered tasks are kept. It is enough for all open tasks if they
	// are small; large ones wait.
	heldBytes = 64 << 20
)

// origin is the place of a task in the file.
type origin struct {
	line int    // number of the line, from 1
	id   []byte // raw JSON
	size int64  // bytes that the task uses
}

// sourced is a task of the file that is ready to be sent.
type sourced struct {
	origin
	request client.EnqueueRequest // a task that runs at once uses only action, payload and timeout
}

// source reads the tasks of a file line by line, and only as fast as they are sent.
type source struct {
	name     string // name of the file for messages
	op       wire.Op
	defaults client.EnqueueOptions                 // options for tasks that do not set them
	refused  func(line int, id []byte, why string) // called for each line that cannot be sent

	lines   atomic.Int64 // read so far
	bytes   atomic.Int64 // read so far
	batches chan []sourced
	held    *semaphore.Weighted

	request wire.Request
	pending []sourced
	err     error // why reading ended early; valid once batches is closed
}

// tasks returns the tasks for a stream of the client. It ends when ctx ends, even while stdin blocks.
func (s *source) tasks(ctx context.Context, file io.Reader) iter.Seq2[origin, client.EnqueueRequest] {
	s.batches, s.held = make(chan []sourced), semaphore.NewWeighted(heldBytes)
	go s.read(ctx, file) // it may block on stdin for ever, so nothing waits for it
	return func(yield func(origin, client.EnqueueRequest) bool) {
		for t := range s.each(ctx) {
			if s.held.Acquire(ctx, t.size) != nil || !yield(t.origin, t.request) {
				return
			}
		}
	}
}

// each yields the tasks of all batches.
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

// next waits for a batch. It returns none at the end of the file, or when ctx has ended.
func (s *source) next(ctx context.Context) []sourced {
	select {
	case batch := <-s.batches:
		return batch
	case <-ctx.Done():
		return nil
	}
}

// answered frees the bytes of an answered task for others.
func (s *source) answered(o origin) { s.held.Release(o.size) }

// read sends the lines to batches until the file or ctx ends, then closes the channel.
func (s *source) read(ctx context.Context, file io.Reader) {
	defer close(s.batches)
	input := bufio.NewReaderSize(file, task.DefaultLine+2) // including \r\n
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

// whole reports whether the next line can be read without blocking.
func whole(input *bufio.Reader) bool {
	text, err := input.Peek(input.Buffered())
	return err == nil && bytes.IndexByte(text, '\n') >= 0
}

// deliver sends the pending lines to batches.
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

// skipLong skips the rest of a line that is too long.
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

// take checks a line and adds its task to the pending batch. It skips blank lines. A task without an id gets the
// number of its line as its id, so that its reply can be recognised.
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

// parse parses a line as the server does.
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

// complete sets what a line leaves out.
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
