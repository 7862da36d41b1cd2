package link

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is what a call fails with when its Set is closed.
var ErrClosed = errors.New("client is closed")

// Config says whom a Set talks to, and how. Every field is needed, but Token.
type Config struct {
	// Dial opens a connection; it returns soon after ctx has ended. Peer names the
	// other end in errors.
	Dial func(ctx context.Context) (net.Conn, error)
	Peer string
	// Token is presented on each connection before anything else; empty: none.
	Token string
	// Connections is how many are in use at most, Window how many calls may be
	// unanswered on each.
	Connections, Window int
	// DialTimeout bounds connecting, authentication and ping.
	DialTimeout time.Duration
	// ConnectWait is how long a call waits while no connection can be opened;
	// negative: it fails with the first attempt that fails.
	ConnectWait time.Duration
	// Idle is how long a connection may be unused; it is closed within twice this.
	Idle time.Duration
	// ReplyBytes is the longest reply that is read; a longer one breaks its
	// connection.
	ReplyBytes int
}

// Set is the connections to one server or balancer. It is safe for concurrent use, and
// must be closed.
type Set struct {
	cfg     Config
	ctx     context.Context // ends with Close: the life of the goroutines is the Set's, not a call's
	cancel  context.CancelFunc
	running sync.WaitGroup // the dialer, and two goroutines a connection

	waiting atomic.Int32            // length of the backlog, to look at without the lock
	dialing atomic.Bool             // the dialer runs; changed only with mu held
	ready   atomic.Pointer[[]*conn] // connections that take calls; replaced only with mu held

	mu        sync.Mutex // guards what follows; taken before a conn's mu, never after it
	closed    bool
	backlog   backlog            // calls that no connection had room for
	open      map[*conn]struct{} // all connections, those that leave included
	failures  int                // attempts to connect that failed since one was of use
	notBefore time.Time          // when the next attempt may begin
}

// New makes a Set. It connects when the first call comes.
func New(cfg Config) *Set {
	s := &Set{cfg: cfg, open: map[*conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ready.Store(new([]*conn))
	return s
}

// Closed is closed when the Set is.
func (s *Set) Closed() <-chan struct{} { return s.ctx.Done() }

// Close ends all connections and returns when the Set's goroutines have ended. Calls
// that wait come back with ErrClosed.
func (s *Set) Close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	dropped := s.backlog.take(func(*Call) bool { return true })
	s.waiting.Store(0)
	for n := range s.open {
		n.breakOff(ErrClosed)
	}
	s.mu.Unlock()
	for _, k := range dropped {
		k.settle(Failed, ErrClosed)
	}
	s.running.Wait()
}

// Submit hands a call to the least busy connection, or keeps it until one has room. The
// call's owner is told when it has come back, perhaps before Submit returns.
func (s *Set) Submit(k *Call) {
	if s.waiting.Load() == 0 {
		many := k.Shape.many() // before it is taken: then it may come back at any time
		if n, busy := s.leastBusy(k); n != nil && n.take(k) {
			if busy >= many {
				s.grow()
			}
			return
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		k.settle(Failed, ErrClosed)
		return
	}
	k.since = time.Now()
	s.backlog.push(k)
	// A connection may have got room since it was looked at. From here on it
	// sees that somebody waits.
	s.waiting.Store(s.backlog.length)
	s.feed()
	s.connect()
	s.mu.Unlock()
}

// leastBusy finds the connection with the fewest calls of the kind, nil if none has room.
func (s *Set) leastBusy(k *Call) (best *conn, least int32) {
	long := k.Shape.long()
	least = int32(s.cfg.Window)
	if long {
		least = math.MaxInt32
	}
	for _, n := range *s.ready.Load() {
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

// feed gives waiting calls to connections with room. mu is held.
func (s *Set) feed() {
	for s.backlog.first != nil {
		k := s.backlog.first
		// The call leaves the list before it can be answered and used again.
		s.backlog.remove(k)
		if !s.place(k) {
			s.backlog.pushFront(k)
			break
		}
	}
	s.waiting.Store(s.backlog.length)
}

// place hands a call to the least busy connection, or to any other that takes it.
func (s *Set) place(k *Call) bool {
	if n, _ := s.leastBusy(k); n == nil || n.take(k) {
		return n != nil
	}
	for _, n := range *s.ready.Load() {
		if n.take(k) {
			return true
		}
	}
	return false
}

// Abandon takes back a call whose caller gives up, and tells whether it had been
// handed to a connection: then it may be carried out all the same, counts as unanswered
// until its reply comes, and that reply is dropped. It returns ours = false when the
// call has come back already, or is about to. A connection on which nobody waits any
// more, and which gave no reply since the call was sent, is left: its server may hang.
// So is one with too many abandoned calls of those that may take long.
func (s *Set) Abandon(k *Call) (handedOn, ours bool) {
	s.mu.Lock()
	if k.waiting {
		s.backlog.remove(k)
		s.waiting.Store(s.backlog.length)
		s.mu.Unlock()
		return false, true
	}
	n := k.conn
	s.mu.Unlock()
	if n == nil {
		return true, false
	}
	ours, reason := n.forget(k)
	if reason != nil {
		n.desert(reason)
	}
	return true, ours
}

// DropGone takes the calls that are gone out of the backlog; they come back Failed, for
// this reason.
func (s *Set) DropGone(reason error) {
	s.mu.Lock()
	dropped := s.backlog.take(func(k *Call) bool { return k.Gone != nil && k.Gone.Load() })
	s.waiting.Store(s.backlog.length)
	s.mu.Unlock()
	for _, k := range dropped {
		k.settle(Failed, reason)
	}
}
