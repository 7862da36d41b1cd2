package client

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// connPool holds the connections to one server or balancer. It is safe for concurrent use,
// and must be closed. A call waits in the backlog while all connections are full.
type connPool struct {
	cfg     Config
	ctx     context.Context // ends with close: the goroutines live as long as the connPool, not as a call
	cancel  context.CancelFunc
	running sync.WaitGroup // the dialer, and two goroutines per connection

	waiting atomic.Int32            // length of the backlog; may be read without the lock
	dialing atomic.Bool             // the dialer runs; changed only with mu held
	ready   atomic.Pointer[[]*conn] // connections that accept calls; replaced only with mu held

	mu        sync.Mutex // guards the fields below; taken before a conn's mu, never after it
	closed    bool
	backlog   backlog
	open      map[*conn]struct{} // all connections, including those that accept no more calls
	failures  int                // failed attempts to connect since a connection last answered
	notBefore time.Time          // when the next attempt may begin
}

// newConnPool returns a connPool. It connects for the first call.
func newConnPool(cfg Config) *connPool {
	p := &connPool{cfg: cfg, open: map[*conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.ready.Store(new([]*conn))
	return p
}

// done returns a channel that is closed when the connPool is closed.
func (p *connPool) done() <-chan struct{} { return p.ctx.Done() }

// close ends all connections and waits for the connPool's goroutines. Waiting calls fail with
// ErrClosed.
func (p *connPool) close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	dropped := p.backlog.take(func(*call) bool { return true })
	p.waiting.Store(0)
	for n := range p.open {
		n.breakOff(ErrClosed)
	}
	p.mu.Unlock()
	for _, k := range dropped {
		k.complete(failed, ErrClosed)
	}
	p.running.Wait()
}

// submit passes a call to the least busy connection, or keeps it in the backlog until a
// connection accepts it. The call may be completed before submit returns.
func (p *connPool) submit(k *call) {
	if p.waiting.Load() == 0 {
		busyAt := k.shape.busyAt() // read now, since the call may be completed as soon as it is taken
		if n, busy := p.leastBusy(k); n != nil && n.take(k) {
			if busy >= busyAt {
				p.grow()
			}
			return
		}
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		k.complete(failed, ErrClosed)
		return
	}
	k.since = time.Now()
	p.backlog.push(k)
	// A connection may have become less busy since leastBusy looked. Once waiting is
	// stored, connections see that a call waits.
	p.waiting.Store(p.backlog.length)
	p.feed()
	p.connect()
	p.mu.Unlock()
}

// leastBusy returns the connection with the fewest calls of this kind, or nil if all are full.
func (p *connPool) leastBusy(k *call) (best *conn, least int32) {
	long := k.shape.long()
	least = int32(p.cfg.Window)
	if long {
		least = math.MaxInt32
	}
	for _, n := range *p.ready.Load() {
		busy := n.unanswered.Load()
		if long {
			busy = n.long.Load()
		}
		if busy < least {
			best, least = n, busy
		}
	}
	return best, least
}

// feed passes waiting calls to connections that accept them. mu is held.
func (p *connPool) feed() {
	for p.backlog.first != nil {
		k := p.backlog.first
		// The call leaves the list before it can be answered and used again.
		p.backlog.remove(k)
		if !p.place(k) {
			p.backlog.pushFront(k)
			break
		}
	}
	p.waiting.Store(p.backlog.length)
}

// feedWaiting calls feed for a connection that has read replies.
func (p *connPool) feedWaiting() {
	if p.waiting.Load() == 0 {
		return
	}
	p.mu.Lock()
	p.feed()
	p.mu.Unlock()
}

// place passes a call to the least busy connection, or to any other that accepts it.
func (p *connPool) place(k *call) bool {
	if n, _ := p.leastBusy(k); n == nil || n.take(k) {
		return n != nil
	}
	for _, n := range *p.ready.Load() {
		if n.take(k) {
			return true
		}
	}
	return false
}

// abandon removes a call whose caller gives up. ours is false when the call was completed
// already, or is about to be. sent reports whether a connection had the call: then the
// server may still carry it out, and its reply is dropped.
//
// If no caller waits on that connection any more and no reply arrived since the call was
// sent, the server may hang, so the connection accepts no more calls. The same holds for a
// connection with too many abandoned long-lived calls.
func (p *connPool) abandon(k *call) (sent, ours bool) {
	p.mu.Lock()
	if k.waiting {
		p.backlog.remove(k)
		p.waiting.Store(p.backlog.length)
		p.mu.Unlock()
		return false, true
	}
	n := k.conn
	p.mu.Unlock()
	if n == nil {
		return true, false
	}
	ours, reason := n.abandon(k)
	if reason != nil {
		n.leaveSoon(reason)
	}
	return true, ours
}

// dropGone removes the calls whose gone is set from the backlog, and completes them as failed
// with this reason.
func (p *connPool) dropGone(reason error) {
	p.mu.Lock()
	dropped := p.backlog.take(func(k *call) bool { return k.gone != nil && k.gone.Load() })
	p.waiting.Store(p.backlog.length)
	p.mu.Unlock()
	for _, k := range dropped {
		k.complete(failed, reason)
	}
}

// retire takes a connection out of use, and replaces it if a call waits.
func (p *connPool) retire(n *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takeOut(n)
}

// remove removes a connection that has ended. One that never answered a request counts as a
// failed attempt, so that the pool does not keep dialling a server which accepts connections
// and drops them.
func (p *connPool) remove(n *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, n)
	if !n.useful && n.lastID > pingID {
		p.noteFailure(nil)
	}
	p.takeOut(n)
}
