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
	// lastAnswers is how long a worker that stops waits for the answers to what it gave back.
	lastAnswers = 10 * time.Second
	// lastReturns is how long Run waits for actions whose contexts it has ended.
	lastReturns = 2 * time.Second
)

// working is one Run of a Worker.
type working struct {
	Worker
	registry *actions.Registry
	dials    []func(context.Context) (net.Conn, error)
	bodies   *bodies
	base     context.Context          // of actions: the values of Run's context, without its end
	ctx      context.Context          // ends when the worker is over
	cancel   context.CancelFunc       // ends ctx
	limits   map[string]chan struct{} // of actions with Slots, a place for each
	running  sync.WaitGroup           // actions

	mu       sync.Mutex        // guards the fields below, and those of links and leases
	held     map[string]*lease // by id
	open     *workLink         // the connection; nil while there is none
	link     *workLink         // the same, if outcomes can be sent on it now
	turn     int               // the next of dials
	wasReady bool              // a node has accepted the worker
	stopping bool              // nothing more is taken
	quiet    bool              // an operator asked the worker to stop
	left     bool              // leave was sent on link
	over     bool
	err      error // why the worker is over, if it is Run's error
	timers   []*time.Timer
}

func newWorking(ctx context.Context, w Worker, registry *actions.Registry) *working {
	r := &working{
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

// run serves one connection after another.
func (r *working) run(ctx context.Context) error {
	defer r.bodies.close()
	defer r.end(nil)
	defer context.AfterFunc(ctx, r.stop)()
	for failures := 0; r.goesOn(); {
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

// goesOn reports whether another connection is needed. A quiet worker without tasks needs none, and waits for its end.
func (r *working) goesOn() bool {
	r.mu.Lock()
	idle := r.quiet && len(r.held) == 0 && !r.over
	over := r.over
	r.mu.Unlock()
	if idle {
		<-r.ctx.Done()
	}
	return !idle && !over
}

// pause returns the pause after a number of failures in a row.
func (r *working) pause(failures int) time.Duration {
	most := r.MaxPause
	if failures < 20 {
		most = min(r.MinPause<<(failures-1), r.MaxPause)
	}
	if most <= 0 {
		return 0
	}
	return rand.N(most) //nolint:gosec // a pause needs no secret
}

// serve works on one connection until it ends. moved is true if the node has asked the worker to connect to another one;
// least is the least time until the next attempt.
func (r *working) serve(failures *int) (moved bool, least time.Duration) {
	nc, err := r.dial(r.ctx)
	if err != nil {
		r.Logger.Warn("no connection to a node", "addr", r.Addr, "error", err)
		return false, 0
	}
	l := newWorkLink(r, nc)
	if !r.adopt(l) {
		return false, 0
	}
	var writer sync.WaitGroup
	writer.Go(l.write)
	err = l.converse()
	r.part(l)
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
func (r *working) dial(ctx context.Context) (net.Conn, error) {
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

func (r *working) nextAddress() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn++
}

// adopt makes a connection the worker's. It returns false, and closes it, if the worker is over.
func (r *working) adopt(l *workLink) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		_ = l.net.Close()
		return false
	}
	r.open = l
	return true
}

// part closes a connection.
func (r *working) part(l *workLink) {
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

// stop takes no more tasks, and lets those that run finish.
func (r *working) stop() {
	r.mu.Lock()
	r.stopping = true
	if r.link != nil {
		r.link.takeNoMore()
	}
	r.after(r.Drain, r.releaseAll)
	r.mu.Unlock()
	r.leaveWhenEmpty()
}

// after calls a function later, unless the worker is over then. mu is held.
func (r *working) after(d time.Duration, do func()) {
	if !r.over {
		r.timers = append(r.timers, time.AfterFunc(d, do))
	}
}

// releaseAll gives back what still runs when the time to finish is over.
func (r *working) releaseAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if h.outcome == nil {
			r.settle(h, appendRelease(nil, h.id))
			h.stop(ErrStopping)
		}
	}
	r.after(lastAnswers, func() {
		r.Logger.Warn("worker stops without the node's answers")
		r.end(nil)
	})
}

// leaveWhenEmpty leaves the node when the worker stops and holds nothing.
func (r *working) leaveWhenEmpty() {
	r.mu.Lock()
	empty := r.stopping && len(r.held) == 0 && !r.left && !r.over
	stays := empty && r.link != nil && r.link.working
	if stays {
		r.left = true
		r.link.say([]byte(`{"id":"leave","op":"leave","work":"` + workID + `"}` + "\n"))
		r.after(lastAnswers, func() { r.end(nil) })
	}
	r.mu.Unlock()
	if empty && !stays {
		r.end(nil)
	}
}

// end makes the worker over. Only the first call counts.
func (r *working) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over, r.err = true, err
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

// awaitActions waits for actions to return. Those that ignore the end of their context are left behind.
func (r *working) awaitActions() {
	returned := make(chan struct{})
	go func() {
		r.running.Wait()
		close(returned)
	}()
	timer := time.NewTimer(lastReturns)
	defer timer.Stop()
	select {
	case <-returned:
	case <-timer.C:
		r.Logger.Warn("actions ignore the end of their contexts")
	}
}

// ready is called when a node has accepted the worker. held are the leases that go on, of those that the worker named.
func (r *working) ready(l *workLink, held []string) {
	r.mu.Lock()
	r.wasReady, r.link = true, l
	l.ready, l.working = true, true
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
		l.takeNoMore()
	}
	r.mu.Unlock()
	r.leaveWhenEmpty()
}

// settle keeps the line that says how an attempt ended, and sends it as soon as there is a connection. mu is held.
func (r *working) settle(h *lease, outcome []byte) {
	if h.outcome != nil || r.held[h.id] != h {
		return // it was released, or is lost
	}
	h.outcome = outcome
	h.stopTimers()
	if r.link != nil {
		r.link.deliver(h)
	}
}

// forget removes a lease. mu is held.
func (r *working) forget(h *lease) {
	delete(r.held, h.id)
	h.stopTimers()
	h.isNotDue()
}

// answered is called when a node has recorded an outcome, or the attempt was over already.
func (r *working) answered(id []byte) {
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
func (r *working) refused(id []byte, refusal *task.Error) {
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
	failed := h != nil && h.replace("the node refused the result: "+refusal.Message)
	if failed && r.link != nil {
		h.isNotDue()
		r.link.deliver(h)
	}
	r.mu.Unlock()
	if !failed {
		r.answered(id)
	}
}

// sendAgain sends an outcome again after a pause, if the connection is still the same then. A new one sends all outcomes.
func (r *working) sendAgain(id []byte, least time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held[string(id)]
	if h == nil || h.outcome == nil || r.over {
		return
	}
	h.isNotDue()
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
