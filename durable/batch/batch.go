// Package batch lets independent callers share calls. All questions that arrive while the allowed calls are running
// go into the next call. There is no timer, so a single caller does not wait for others, and many callers cost few
// calls.
package batch

import (
	"context"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// waitingMost is how many questions may wait for the next call.
	waitingMost = 100_000
	// callsMost is how many calls of a batcher may run at once. A store that shares its commits should see all
	// waiting callers, and a slow store should get many questions at once.
	callsMost = 4
	// breath is how long a batcher with a ConcurrentFrom waits after a call that several callers shared, since all of them
	// may ask again.
	breath = 500 * time.Microsecond
	// callSlow is how long a call may take before others no longer wait for its end. It may hang.
	callSlow = 100 * time.Millisecond
)

// Batcher collects questions Q and returns answers A. It is safe for concurrent use.
type Batcher[Q, A any] struct {
	config Config[Q, A]
	wake   wait.Signal

	mu      sync.Mutex // guards the fields below
	waiting []*question[Q, A]
	count   int       // number of single questions in waiting
	calls   int       // running calls
	begun   time.Time // when the latest of them began
	closed  bool      // there will be no more answers
}

// question is the question of one caller.
type question[Q, A any] struct {
	items   []Q
	answers []A
	err     error
	done    chan struct{} // closed when answers and err are set
}

// Config configures a Batcher.
type Config[Q, A any] struct {
	// Call returns the answers in the order of the questions. Its context ends after Timeout, or with that of Run.
	Call    func(context.Context, []Q) ([]A, error)
	Most    int           // questions in one call; those of one caller stay together
	Timeout time.Duration // of one call
	// ConcurrentFrom is how many questions must wait before a second call is made at the same time as a running one; 0: any
	// number. It is for stores in which a call costs more than the questions in it.
	ConcurrentFrom int
}

// New returns a Batcher. Questions wait until Run is called.
func New[Q, A any](config Config[Q, A]) *Batcher[Q, A] {
	return &Batcher[Q, A]{config: config, wake: wait.NewSignal()}
}

// Ask waits for the answers to items. If ctx ends first, the refusal is unavailable if no call has them, and
// unknown_outcome otherwise. Other refusals are overloaded if too many questions wait, draining after the end of
// Run, and those of Call.
func (g *Batcher[Q, A]) Ask(ctx context.Context, items []Q) ([]A, error) {
	q := &question[Q, A]{items: items, done: make(chan struct{})}
	if refusal := g.put(q); refusal != nil {
		return nil, refusal
	}
	g.wake.Set()
	select {
	case <-q.done:
		return q.answers, q.err
	case <-ctx.Done():
	}
	if g.takeBack(q) {
		return nil, task.Refuse(task.Unavailable, "the request was given up: %v", context.Cause(ctx))
	}
	return nil, task.Refuse(task.UnknownOutcome, "the request was given up while the store worked on it")
}

func (g *Batcher[Q, A]) put(q *question[Q, A]) *task.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return refuseDraining()
	case g.count+len(q.items) > waitingMost && g.count > 0:
		refusal := task.Refuse(task.Overloaded, "%d requests wait for the store already", g.count)
		refusal.RetryAfter = time.Second
		return refusal
	}
	g.waiting = append(g.waiting, q)
	g.count += len(q.items)
	return nil
}

// takeBack removes a question that no call has taken.
func (g *Batcher[Q, A]) takeBack(q *question[Q, A]) bool {
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

// take returns the questions of the next call, if it must be made now. The caller reports when they are answered.
func (g *Batcher[Q, A]) take() []*question[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 || g.calls > 0 && g.count < g.config.ConcurrentFrom && time.Since(g.begun) < callSlow {
		return nil // the running call checks again at its end
	}
	g.calls++
	g.begun = time.Now()
	n, items := 0, 0
	for n < len(g.waiting) && (n == 0 || items+len(g.waiting[n].items) <= g.config.Most) {
		items += len(g.waiting[n].items)
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.count -= items
	return batch
}

// Run answers questions until ctx ends, and then refuses those that wait.
func (g *Batcher[Q, A]) Run(ctx context.Context) {
	var calls sync.WaitGroup
	for range callsMost {
		calls.Go(func() { g.run(ctx) })
	}
	calls.Wait()
}

func (g *Batcher[Q, A]) run(ctx context.Context) {
	slow := time.NewTimer(callSlow)
	defer slow.Stop()
	for {
		if g.waits() {
			slow.Reset(callSlow)
		}
		select {
		case <-g.wake:
		case <-slow.C:
		case <-ctx.Done():
			g.close()
			return
		}
		for batch := g.take(); len(batch) > 0; batch = g.take() {
			g.answer(ctx, batch)
			if g.config.ConcurrentFrom > 0 && len(batch) > 1 && g.few() {
				wait.For(ctx, breath)
			}
			g.answered()
		}
	}
}

// few reports whether so few questions wait that the batcher waits for more.
func (g *Batcher[Q, A]) few() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count < g.config.ConcurrentFrom
}

// waits reports whether a question waits for the end of another call.
func (g *Batcher[Q, A]) waits() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) > 0
}

func (g *Batcher[Q, A]) answered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
}

// answer makes one call for a batch.
func (g *Batcher[Q, A]) answer(ctx context.Context, batch []*question[Q, A]) {
	items := batch[0].items
	if len(batch) > 1 {
		n := 0
		for _, q := range batch {
			n += len(q.items)
		}
		items = make([]Q, 0, n)
		for _, q := range batch {
			items = append(items, q.items...)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	answers, err := g.config.Call(ctx, items)
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

// close refuses the waiting questions, and later ones.
func (g *Batcher[Q, A]) close() {
	g.mu.Lock()
	waiting := g.waiting
	g.waiting, g.closed = nil, true
	g.mu.Unlock()
	for _, q := range waiting {
		q.err = refuseDraining()
		close(q.done)
	}
}

func refuseDraining() *task.Error {
	return task.Refuse(task.Draining, "this node is about to stop; ask another one")
}
