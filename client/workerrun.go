package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// answerTimeout is how long a worker that stops waits for the answers to its last lines.
	answerTimeout = 10 * time.Second
	// returnTimeout is how long Run waits for actions to return after it has ended their contexts.
	returnTimeout = 2 * time.Second
)

// workerRun is one Run of a Worker.
type workerRun struct {
	Worker
	registry *actions.Registry
	dials    []func(context.Context) (net.Conn, error)
	bodies   *bodies
	base     context.Context          // of actions: the values of Run's context, without its end
	ctx      context.Context          // ends when the worker is over
	cancel   context.CancelFunc       // ends ctx
	limits   map[string]chan struct{} // the slots of each action that limits them
	running  sync.WaitGroup           // actions

	mu       sync.Mutex        // guards the fields below, and those of links and leases
	held     map[string]*lease // by id
	open     *workLink         // the connection; nil while there is none
	link     *workLink         // the same if it can carry outcomes; otherwise nil
	turn     int               // counts through dials
	wasReady bool              // a node has accepted the worker
	stopping bool              // the worker takes no more tasks
	quiet    bool              // an operator asked the worker to stop
	left     bool              // leave was sent on link
	ended    bool
	err      error // the error that Run returns
	timers   []*time.Timer
}

func newWorkerRun(ctx context.Context, w Worker, registry *actions.Registry) *workerRun {
	r := &workerRun{
		Worker: w, registry: registry, base: context.WithoutCancel(ctx), held: map[string]*lease{}, limits: map[string]chan struct{}{},
	}
	r.ctx, r.cancel = context.WithCancel(r.base)
	if w.Dial != nil {
		r.dials = append(r.dials, w.Dial)
	} else {
		for addr := range strings.SplitSeq(w.Addr, ",") {
			r.dials = append(r.dials, dialer(addr, w.TLS))
		}
	}
	for _, action := range w.Actions {
		if action.Slots > 0 {
			r.limits[action.Name] = make(chan struct{}, action.Slots)
		}
	}
	r.bodies = newBodies(r)
	return r
}

// run makes one connection after another until the worker ends.
func (r *workerRun) run(ctx context.Context) error {
	defer r.bodies.close()
	defer r.end(nil)
	defer context.AfterFunc(ctx, r.stop)()
	for failures := 0; r.needsConnection(); {
		moved, least := r.serve(&failures)
		r.leaveWhenEmpty()
		if moved {
			continue
		}
		failures++
		wait.For(r.ctx, max(least, r.pause(failures)))
	}
	r.awaitActions()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// needsConnection reports whether the worker needs another connection. If an operator has stopped the worker and it holds no
// tasks, needsConnection blocks until the worker ends.
func (r *workerRun) needsConnection() bool {
	r.mu.Lock()
	idle := r.quiet && len(r.held) == 0 && !r.ended
	over := r.ended
	r.mu.Unlock()
	if idle {
		<-r.ctx.Done()
	}
	return !idle && !over
}

// pause returns the pause after a number of failures in a row.
func (r *workerRun) pause(failures int) time.Duration {
	most := r.MaxPause
	if failures < 20 {
		most = min(r.MinPause<<(failures-1), r.MaxPause)
	}
	if most <= 0 {
		return 0
	}
	return rand.N(most) //nolint:gosec // a pause needs no secret
}

// serve makes a connection and works on it until it ends. moved is true if the node has asked the worker to connect again.
// least is the least time until the next connection.
func (r *workerRun) serve(failures *int) (moved bool, least time.Duration) {
	nc, err := r.dial(r.ctx)
	if err != nil {
		r.Logger.Warn("no connection to a node", "addr", r.Addr, "error", err)
		return false, 0
	}
	l := newWorkLink(r, nc)
	if !r.attach(l) {
		return false, 0
	}
	var writer sync.WaitGroup
	writer.Go(l.write)
	err = l.readUntilEnd()
	r.detach(l)
	writer.Wait()
	if l.ready {
		*failures = 0
	}
	var refusal *task.Error
	switch {
	case r.ctx.Err() != nil:
	case errors.Is(err, errLeft):
		r.Logger.Info("node stops; connecting again", "node", l.node)
		return l.ready, 0
	case errors.As(err, &refusal):
		r.Logger.Warn("node refused the worker", "code", refusal.Code, "error", refusal.Message)
		return false, refusal.RetryAfter
	default:
		r.Logger.Warn("connection to the node has ended", "node", l.node, "error", err)
	}
	return false, 0
}

// dial connects to the next address.
func (r *workerRun) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.DialTimeout)
	defer cancel()
	r.mu.Lock()
	turn := r.turn
	r.mu.Unlock()
	nc, err := r.dials[turn%len(r.dials)](ctx)
	if err != nil {
		r.nextAddress()
	}
	return nc, err
}

func (r *workerRun) nextAddress() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn++
}

// attach makes a connection the one of the worker. If the worker has ended, attach closes it and returns false.
func (r *workerRun) attach(l *workLink) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		_ = l.net.Close()
		return false
	}
	r.open = l
	return true
}

// detach closes a connection.
func (r *workerRun) detach(l *workLink) {
	_ = l.net.Close()
	r.nextAddress()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.left = nil, false
	if r.link == l {
		r.link = nil
	}
	l.broken = true
	l.wake.Signal()
}

// stop makes the worker take no more tasks and gives the running ones Drain to finish.
func (r *workerRun) stop() {
	r.mu.Lock()
	r.stopping = true
	if r.link != nil {
		r.link.stopPushes()
	}
	r.after(r.Drain, r.releaseAll)
	r.mu.Unlock()
	r.leaveWhenEmpty()
}

// after calls a function after d, unless the worker has ended. The caller holds mu.
func (r *workerRun) after(d time.Duration, do func()) {
	if !r.ended {
		r.timers = append(r.timers, time.AfterFunc(d, do))
	}
}

// releaseAll releases the tasks that still run at the end of Drain.
func (r *workerRun) releaseAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if h.outcome == nil {
			r.settle(h, appendRelease(nil, h.id))
			h.stop(ErrStopping)
		}
	}
	r.after(answerTimeout, func() {
		r.Logger.Warn("worker stops without the node's answers")
		r.end(nil)
	})
}

// leaveWhenEmpty leaves the node when the worker stops and holds nothing.
func (r *workerRun) leaveWhenEmpty() {
	r.mu.Lock()
	empty := r.stopping && len(r.held) == 0 && !r.left && !r.ended
	stays := empty && r.link != nil && r.link.open
	if stays {
		r.left = true
		r.link.queueLine([]byte(`{"id":"leave","op":"leave","work":"` + workID + `"}` + "\n"))
		r.after(answerTimeout, func() { r.end(nil) })
	}
	r.mu.Unlock()
	if empty && !stays {
		r.end(nil)
	}
}

// end ends the worker: Run returns err. Only the first call counts.
func (r *workerRun) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended, r.err = true, err
	for _, timer := range r.timers {
		timer.Stop()
	}
	for _, h := range r.held {
		h.stop(ErrStopping)
		h.stopTimers()
	}
	if r.open != nil {
		_ = r.open.net.Close()
	}
	r.cancel()
}

// awaitActions waits up to returnTimeout for actions to return.
func (r *workerRun) awaitActions() {
	returned := make(chan struct{})
	go func() {
		r.running.Wait()
		close(returned)
	}()
	timer := time.NewTimer(returnTimeout)
	defer timer.Stop()
	select {
	case <-returned:
	case <-timer.C:
		r.Logger.Warn("actions ignore the end of their contexts")
	}
}

// ready is called when a node has accepted the worker. held has the leases that the worker keeps. It has lost the others that
// it named.
func (r *workerRun) ready(l *workLink, held []string) {
	r.mu.Lock()
	r.wasReady, r.link = true, l
	l.ready, l.open = true, true
	for _, id := range l.hold {
		h := r.held[id]
		switch {
		case h == nil:
		case !slices.Contains(held, id):
			r.forget(h)
			h.stop(ErrLeaseLost)
		case h.outcome != nil:
			l.deliver(h)
		}
	}
	if r.stopping || r.quiet {
		l.stopPushes()
	}
	r.mu.Unlock()
	r.leaveWhenEmpty()
}

// settle keeps the outcome of an attempt, and sends it as soon as there is a connection. The caller holds mu.
func (r *workerRun) settle(h *lease, outcome []byte) {
	if h.outcome != nil || r.held[h.id] != h {
		return // it was released or lost
	}
	h.outcome = outcome
	h.stopTimers()
	if r.link != nil {
		r.link.deliver(h)
	}
}

// forget removes a lease. The caller holds mu.
func (r *workerRun) forget(h *lease) {
	delete(r.held, h.id)
	h.stopTimers()
	h.clearDue()
}

// answered is called when a node has recorded an outcome, or has answered that the attempt was over already.
func (r *workerRun) answered(id []byte) {
	r.mu.Lock()
	h := r.held[string(id)]
	if h == nil || h.outcome == nil {
		r.mu.Unlock()
		return
	}
	r.forget(h)
	last := r.stopping && len(r.held) == 0
	r.mu.Unlock()
	h.stop(nil)
	if last {
		r.leaveWhenEmpty()
	}
}

// refused is called when a node has refused an outcome.
func (r *workerRun) refused(id []byte, refusal *task.Error) {
	switch refusal.Code {
	case task.Stale, task.NotFound:
		r.answered(id)
		return
	case task.Unavailable, task.Overloaded, task.Draining, task.Internal, task.UnknownOutcome:
		r.sendAgain(id, refusal.RetryAfter)
		return
	}
	r.Logger.Warn("node refused an outcome", "lease", string(id), "code", refusal.Code, "error", refusal.Message)
	r.mu.Lock()
	h := r.held[string(id)]
	failed := h != nil && h.replaceResult("the node refused the result: "+refusal.Message)
	if failed && r.link != nil {
		h.clearDue()
		r.link.deliver(h)
	}
	r.mu.Unlock()
	if !failed {
		r.answered(id)
	}
}

// tooLong is called when a node has refused a line that is too long for it, and ends the connection. The longest result is
// replaced by a failure: it would be sent again on the next connection, and refused for ever.
func (r *workerRun) tooLong(l *workLink, refusal *task.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var longest *lease
	for _, h := range r.held {
		if h.sentOn == l && h.isResult() && (longest == nil || len(h.outcome) > len(longest.outcome)) {
			longest = h
		}
	}
	if longest != nil {
		r.Logger.Warn("node refused a result", "lease", longest.id, "code", refusal.Code, "error", refusal.Message)
		longest.replaceResult("the node refused the result: " + refusal.Message)
	}
}

// sendAgain sends an outcome again after a pause, unless there is another connection by then: that sends all outcomes.
func (r *workerRun) sendAgain(id []byte, least time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held[string(id)]
	if h == nil || h.outcome == nil || r.ended {
		return
	}
	h.clearDue()
	h.refusals++
	link := r.link
	h.timer = time.AfterFunc(max(least, r.pause(h.refusals)), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.held[h.id] == h && link != nil && r.link == link {
			link.deliver(h)
		}
	})
}
