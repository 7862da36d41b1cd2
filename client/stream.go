package client

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is the outcome of one task of a Stream: what Run would have returned.
type Outcome struct {
	Result Result
	Err    error
}

// Stream runs tasks, each under a key of the caller's choice, and yields their
// outcomes as they arrive, which is not the order of the tasks. It uses the memory of
// one full window per connection, whatever the number of tasks: if the loop over the
// outcomes is slow, Stream reads tasks as slowly. Every task that was read has exactly
// one outcome, unless the loop is left early; the errors are those of Run.
//
// When ctx ends or the loop is left early, Stream reads no more tasks, and those without
// a reply get an error that wraps the error of the context. The loop ends only after tasks
// has returned. Its yield returns false then, but an iterator that blocks must itself watch
// ctx.
//
// Stream calls tasks in a goroutine of its own. The returned sequence may be ranged over as
// many times as tasks. Several streams and other calls may share the Client.
func Stream[K any](ctx context.Context, c *Client, tasks iter.Seq2[K, Request]) iter.Seq2[K, Outcome] {
	return func(yield func(K, Outcome) bool) {
		runStream(ctx, c, tasks, streamKind[Request, Result]{c.runLine, runOutcome},
			func(key K, result Result, err error) bool { return yield(key, Outcome{result, err}) })
	}
}

// streamKind is how a stream writes the line of a task and reads its outcome.
type streamKind[T, R any] struct {
	line    func(*call, *T) error
	outcome func(*call) (R, error)
}

// runStream runs a whole stream, from the first task to the last outcome.
func runStream[K, T, R any](
	ctx context.Context, c *Client, tasks iter.Seq2[K, T], kind streamKind[T, R], yield func(K, R, error) bool,
) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream[K, T, R]{client: c, kind: kind, budget: c.cfg.Connections * c.cfg.Window, sending: true}
	s.some, s.room = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.sleep = func(pause time.Duration) error { return c.sleep(ctx, pause) }
	s.running.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer s.running.Done()
		s.abort(ctx.Err())
	})
	defer func() {
		if stop() {
			s.running.Done()
		}
		cancel()
		s.abort(context.Canceled)
		s.running.Wait()
		c.conns.dropGone(context.Canceled)
	}()
	s.running.Go(func() { s.send(tasks) })
	s.yieldAll(yield)
}

// keyed is an outcome with its key.
type keyed[K, R any] struct {
	key    K
	result R
	err    error
}

// stream is one run of Stream or StreamEnqueue.
type stream[K, T, R any] struct {
	client  *Client
	kind    streamKind[T, R]
	budget  int // limit of tasks in flight plus outcomes not yet yielded
	sleep   func(time.Duration) error
	running sync.WaitGroup
	gone    atomic.Bool // the stream's calls may leave the backlog

	mu      sync.Mutex       // guards the fields below; no other lock is taken while it is held
	some    *sync.Cond       // wakes the loop: there are outcomes, or there will be no more
	room    *sync.Cond       // wakes the sender: the budget is not used up
	items   []*item[K, T, R] // all of them
	free    []*item[K, T, R] // those without a task
	ready   []keyed[K, R]
	busy    int   // items that have a task without an outcome
	sending bool  // more tasks may follow
	aborted error // why no more tasks are sent; nil: they are sent
}

// item is a task of a stream in flight.
type item[K, T, R any] struct {
	call
	stream    *stream[K, T, R]
	key       K    // guarded by stream.mu, like the next two
	busy      bool // the item has a task without an outcome
	resending bool // the task waits to be sent again
}

// send reads the tasks and submits them.
func (s *stream[K, T, R]) send(tasks iter.Seq2[K, T]) {
	var draft call
	var request T // one for all, since it escapes
	tasks(func(key K, next T) bool {
		request = next
		err := s.kind.line(&draft, &request)
		it, ok := s.begin(key, &draft, err)
		if it != nil {
			s.client.conns.submit(&it.call)
		}
		return ok
	})
	s.mu.Lock()
	s.sending = false
	s.some.Signal()
	s.mu.Unlock()
}

// begin waits until the budget allows another task, then turns the draft into an item, or err
// into an outcome. It returns false when the stream is over.
func (s *stream[K, T, R]) begin(key K, draft *call, err error) (it *item[K, T, R], ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.aborted == nil && s.busy+len(s.ready) >= s.budget {
		s.room.Wait()
	}
	switch {
	case s.aborted != nil:
		return nil, false
	case err != nil:
		s.ready = append(s.ready, keyed[K, R]{key: key, err: err})
		s.some.Signal()
		return nil, true
	}
	it = s.unused()
	it.reset()
	it.line, draft.line = draft.line, it.line
	it.policy, it.about, it.shape = draft.policy, draft.about, draft.shape
	it.key, it.busy = key, true
	s.busy++
	return it, true
}

// unused returns an item without a task. mu is held.
func (s *stream[K, T, R]) unused() *item[K, T, R] {
	if last := len(s.free) - 1; last >= 0 {
		it := s.free[last]
		s.free = s.free[:last]
		return it
	}
	it := &item[K, T, R]{stream: s}
	it.owner, it.gone = it, &s.gone
	s.items = append(s.items, it)
	return it
}

// completed notes the outcome, or sends the task again if that is allowed.
func (it *item[K, T, R]) completed() {
	s := it.stream
	pause, again := it.retry()
	if again {
		s.mu.Lock()
		if again = s.aborted == nil; again {
			it.resending = true
			s.running.Go(func() { it.resend(pause) })
		}
		s.mu.Unlock()
	}
	if !again {
		s.finish(it, nil)
	}
}

// resend sends the task again after a pause.
func (it *item[K, T, R]) resend(pause time.Duration) {
	s := it.stream
	err := s.sleep(pause)
	s.mu.Lock()
	it.resending = false
	s.mu.Unlock()
	if err != nil {
		s.finish(it, it.notResent(err))
		return
	}
	s.client.conns.submit(&it.call)
}

// finish notes an item's outcome, unless abort has done so. err is set if the task could
// not be sent again.
func (s *stream[K, T, R]) finish(it *item[K, T, R], err error) {
	var result R
	if err == nil {
		result, err = s.kind.outcome(&it.call)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if it.busy {
		s.note(it, result, err)
		s.free = append(s.free, it)
	}
}

// note passes an outcome to the loop. mu is held.
func (s *stream[K, T, R]) note(it *item[K, T, R], result R, err error) {
	it.busy = false
	s.busy--
	s.ready = append(s.ready, keyed[K, R]{it.key, result, err})
	s.some.Signal()
}

// abort ends the stream early: no more tasks are sent, and each task without an outcome
// gets an error.
func (s *stream[K, T, R]) abort(reason error) {
	s.mu.Lock()
	first := s.aborted == nil
	if first {
		s.aborted = reason
		s.room.Broadcast()
	}
	s.mu.Unlock()
	if !first {
		return
	}
	s.gone.Store(true)
	s.client.conns.dropGone(notSent(reason))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.items {
		if it.busy && !it.resending {
			var none R
			s.note(it, none, it.abandoned(reason, true))
		}
	}
}

// yieldAll yields outcomes until there are no more or the loop is left.
func (s *stream[K, T, R]) yieldAll(yield func(K, R, error) bool) {
	var batch []keyed[K, R]
	for {
		batch = s.wait(batch)
		if len(batch) == 0 {
			return
		}
		for _, one := range batch {
			if !yield(one.key, one.result, one.err) {
				return
			}
		}
	}
}

// wait returns the next outcomes, or none when there are no more. It reuses the memory of
// the former ones.
func (s *stream[K, T, R]) wait(former []keyed[K, R]) []keyed[K, R] {
	clear(former)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) == 0 && (s.sending || s.busy > 0) {
		s.some.Wait()
	}
	batch := s.ready
	s.ready = former[:0]
	s.room.Signal()
	return batch
}
