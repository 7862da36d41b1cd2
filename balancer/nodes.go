package balancer

import (
	"log/slog"
	"sync"
)

// State is what the balancer holds of a node.
type State string

// The states of a node.
const (
	Up       State = "up"       // takes new connections
	Draining State = "draining" // alive, but wants no new connections
	Down     State = "down"     // does not answer
)

// NodeStats is what one node looked like at one moment.
type NodeStats struct {
	// Address is the node's, host:port.
	Address string `json:"address"`
	// State is up, down or draining.
	State State `json:"state"`
	// Open is the number of client connections on it now, Total of those it got
	// since the start.
	Open  int   `json:"open"`
	Total int64 `json:"total"`
	// Failures counts the connections that it did not take; they went on to
	// another node.
	Failures int64 `json:"failures"`
}

// verdict is what one look at a node found.
type verdict int

const (
	ready   verdict = iota // /readyz said 200
	drains                 // /readyz said 503
	failed                 // no answer in time, or a senseless one
	refused                // nobody listens there
)

// node is one row of nodes, which guards it.
type node struct {
	address  string
	state    State
	open     int
	total    int64
	failures int64
	good     int // checks in a row that said ready
	bad      int // looks in a row that failed
}

// nodes is the set of all nodes: who is up, and who has how many connections.
// It is safe for concurrent use.
type nodes struct {
	fall, rise int
	logger     *slog.Logger

	// mu guards list's rows, next and returned. Nothing slow happens under it.
	mu       sync.Mutex
	list     []*node
	next     int           // where the search among equals begins, so that they take turns
	returned chan struct{} // closed and replaced when a node comes up
}

func newNodes(addresses []string, cfg Config) *nodes {
	set := &nodes{fall: cfg.Fall, rise: cfg.Rise, logger: cfg.Logger, returned: make(chan struct{})}
	for _, address := range addresses {
		// Up until seen otherwise: the first check comes at once, and a connection
		// that it overtakes goes to another node if this one is not there.
		set.list = append(set.list, &node{address: address, state: Up})
	}
	return set
}

// pick takes the node for a new connection that is not in tried: the best by
// state (up before draining before down, for a node that looks dead is still
// better than none), among those the one with the fewest open connections. It counts the
// connection as open; the caller gives it back with release. Nil when all were
// tried.
func (s *nodes) pick(tried map[*node]bool) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *node
	for i := range s.list {
		candidate := s.list[(s.next+i)%len(s.list)]
		if !tried[candidate] && (best == nil || candidate.betterThan(best)) {
			best = candidate
		}
	}
	s.next = (s.next + 1) % len(s.list)
	if best != nil {
		best.open++
	}
	return best
}

// betterThan compares for pick. The lock of nodes is held.
func (n *node) betterThan(other *node) bool {
	if n.state != other.state {
		return n.state.rank() < other.state.rank()
	}
	return n.open < other.open
}

func (s State) rank() int {
	switch s {
	case Up:
		return 0
	case Draining:
		return 1
	default:
		return 2
	}
}

// release gives back what pick took.
func (s *nodes) release(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.open--
}

// took notes that n accepted a connection. That speaks of the kernel, not of the
// program behind it, so it does not undo a failed check.
func (s *nodes) took(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.total++
}

// missed notes that n did not take a connection.
func (s *nodes) missed(n *node, found verdict, reason error) {
	s.mu.Lock()
	n.failures++
	s.mu.Unlock()
	s.observe(n, found, reason)
}

// observe notes what a look at n found, and logs it when it changes n's state.
func (s *nodes) observe(n *node, found verdict, reason error) {
	s.mu.Lock()
	was := n.state
	n.judge(found, s.fall, s.rise)
	is := n.state
	if is == Up && was != Up {
		close(s.returned)
		s.returned = make(chan struct{})
	}
	s.mu.Unlock()
	if is == was {
		return
	}
	if is == Down {
		s.logger.Warn("node changed", "node", n.address, "state", is, "was", was, "reason", reason)
		return
	}
	s.logger.Info("node changed", "node", n.address, "state", is, "was", was)
}

// judge changes the state as the drawing in doc.go says. The lock of nodes is
// held.
func (n *node) judge(found verdict, fall, rise int) {
	switch found {
	case ready:
		n.bad = 0
		n.good++
		if n.good >= rise {
			n.state = Up
		}
	case drains:
		n.good, n.bad = 0, 0
		n.state = Draining
	case failed, refused:
		n.good = 0
		n.bad++
		// A refusal is a certain sign; a lost answer may be chance.
		if found == refused || n.bad >= fall {
			n.state = Down
		}
	}
}

// backUp gives a channel that is closed when a node comes up after this call.
func (s *nodes) backUp() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.returned
}

// stats gives a copy of all rows, in the order of the configuration.
func (s *nodes) stats() []NodeStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]NodeStats, 0, len(s.list))
	for _, n := range s.list {
		list = append(list, NodeStats{
			Address: n.address, State: n.state, Open: n.open, Total: n.total, Failures: n.failures,
		})
	}
	return list
}
