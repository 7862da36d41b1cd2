package durable

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/task"
)

// waitingMost bounds the questions that wait for the next call of the store.
const waitingMost = 100_000

// group lets concurrent callers share calls of the store: whatever was asked while the last
// call ran goes into the next, in the order in which it came.
type group[Q, A any] struct {
	most int // questions of one call; the questions of one caller are never parted
	call func(context.Context, []Q) ([]A, error)
	wake chan struct{}

	mu      sync.Mutex // guards all below
	waiting []*question[Q, A]
	count   int  // of single questions in waiting
	closed  bool // nobody will answer any more
}

// question is what one caller asks.
type question[Q, A any] struct {
	items   []Q
	answers []A
	err     error
	done    chan struct{} // closed when answers and err are there
}

func newGroup[Q, A any](most int, call func(context.Context, []Q) ([]A, error)) *group[Q, A] {
	return &group[Q, A]{most: most, call: call, wake: make(chan struct{}, 1)}
}

// ask waits for the answers to items. When ctx ends before, the question is asked all the same
// and asked is true, unless it could still be taken back.
func (g *group[Q, A]) ask(ctx context.Context, items []Q) (answers []A, asked bool, err error) {
	q := &question[Q, A]{items: items, done: make(chan struct{})}
	if refusal := g.put(q); refusal != nil {
		return nil, false, refusal
	}
	poke(g.wake)
	select {
	case <-q.done:
		return q.answers, true, q.err
	case <-ctx.Done():
	}
	if g.takeBack(q) {
		return nil, false, task.Refuse(task.Unavailable, "the request was given up: %v", context.Cause(ctx))
	}
	return nil, true, task.Refuse(task.UnknownOutcome, "the request was given up while the store worked on it")
}

func (g *group[Q, A]) put(q *question[Q, A]) *task.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return refuseDraining("")
	case g.count+len(q.items) > waitingMost && g.count > 0:
		refusal := task.Refuse(task.Overloaded, "%d requests wait for the store already", g.count)
		refusal.RetryAfter = awayMax
		return refusal
	}
	g.waiting = append(g.waiting, q)
	g.count += len(q.items)
	return nil
}

// takeBack takes a question out that nobody has begun to answer.
func (g *group[Q, A]) takeBack(q *question[Q, A]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting {
		if other == q {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			g.count -= len(q.items)
			return true
		}
	}
	return false
}

// take gives the questions of the next call.
func (g *group[Q, A]) take() []*question[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, items := 0, 0
	for n < len(g.waiting) && (n == 0 || items+len(g.waiting[n].items) <= g.most) {
		items += len(g.waiting[n].items)
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.count -= items
	return batch
}

// run answers until ctx ends.
func (g *group[Q, A]) run(ctx context.Context) {
	for {
		select {
		case <-g.wake:
		case <-ctx.Done():
			g.close()
			return
		}
		for batch := g.take(); len(batch) > 0; batch = g.take() {
			g.answer(ctx, batch)
		}
	}
}

// answer makes one call for a batch.
func (g *group[Q, A]) answer(ctx context.Context, batch []*question[Q, A]) {
	items := batch[0].items
	if len(batch) > 1 {
		items = nil
		for _, q := range batch {
			items = append(items, q.items...)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	answers, err := g.call(ctx, items)
	if err == nil && len(answers) != len(items) {
		err = task.Refuse(task.Internal, "the store gave %d answers to %d questions", len(answers), len(items))
	}
	for _, q := range batch {
		if q.err = err; err == nil {
			q.answers, answers = answers[:len(q.items):len(q.items)], answers[len(q.items):]
		}
		close(q.done)
	}
}

// close refuses what waits and what comes.
func (g *group[Q, A]) close() {
	g.mu.Lock()
	waiting := g.waiting
	g.waiting, g.closed = nil, true
	g.mu.Unlock()
	for _, q := range waiting {
		q.err = refuseDraining("")
		close(q.done)
	}
}
