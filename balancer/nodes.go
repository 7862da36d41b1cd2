package balancer

import (
	"log/slog"
	"sync"
)

// State is the state of a node, as the balancer sees it.
type State string

// The states of a node.
const (
	Up       State = "up"       // takes new connections
	Draining State = "draining" // alive, but gets no new connections
	Down     State = "down"     // does not answer
)

// NodeStats is a snapshot of one node.
type NodeStats struct {
	// Address is the address of the node, host:port.
	Address string `json:"address"`
	// State is up, down or draining.
	State State `json:"state"`
	// Open is the number of its client connections now, Total since the start.
	Open  int   `json:"open"`
	Total int64 `json:"total"`
	// Failures is the number of connections that the node did not accept. The balancer
	// offered them to another node.
	Failures int64 `json:"failures"`
}

// outcome is the result of one check or connect.
type outcome int

const (
	ready   outcome = iota // /readyz answered 200
	drains                 // /readyz answered 503
	failed                 // no valid answer in time
	refused                // the connect was refused
)

// node is one node. The mu of nodes guards it.
type node struct {
	address  string
	state    State
	open     int
	total    int64
	failures int64
	good     int // successful checks in a row
	bad      int // failed checks and connects in a row
}

// nodes holds all nodes, their states and the number of their connections. It is safe for
// concurrent use.
type nodes struct {
	fall, rise int
	logger     *slog.Logger

	// mu guards the nodes in list, next and returned. It is held briefly.
	mu   sync.Mutex
	list []*node
	next int           // the index at which pick begins, so that equal nodes take turns
	isUp chan struct{} // closed and replaced by each check that finds a node up
}

func newNodes(addresses []string, cfg Config) *nodes {
	set := &nodes{fall: cfg.Fall, rise: cfg.Rise, logger: cfg.Logger, isUp: make(chan struct{})}
	for _, address := range addresses {
		// A node is up until a check fails. The first check begins at once, and a connection
		// before it goes to another node if this one does not accept it.
		set.list = append(set.list, &node{address: address, state: Up})
	}
	return set
}

// pick returns the node for a new connection, or nil if all are in tried. It prefers nodes
// that are up, then draining ones, then those that are down, since a node that looks dead is
// still better than none. Among equal nodes it prefers the one with the fewest open
// connections. It counts the connection as open; the caller must call release.
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

// betterThan reports whether pick prefers n. The lock of nodes is held.
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

// release ends a connection that pick counted.
func (s *nodes) release(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.open--
}

// noteConnected notes that n accepted a connection. It does not change the state, since the
// kernel accepts connections even if the program hangs.
func (s *nodes) noteConnected(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.total++
}

// noteFailed notes that n did not accept a connection.
func (s *nodes) noteFailed(n *node, found outcome, reason error) {
	s.mu.Lock()
	n.failures++
	s.mu.Unlock()
	s.observe(n, found, reason)
}

// observe applies an outcome to n, and logs a change of state.
func (s *nodes) observe(n *node, found outcome, reason error) {
	s.mu.Lock()
	was := n.state
	n.apply(found, s.fall, s.rise)
	is := n.state
	if found == ready && is == Up {
		close(s.isUp)
		s.isUp = make(chan struct{})
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

// apply changes the state as the table in doc.go says. The lock of nodes is held.
func (n *node) apply(found outcome, fall, rise int) {
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
		// A refused connect is certain. A lost answer may be an accident.
		if found == refused || n.bad >= fall {
			n.state = Down
		}
	}
}

// waitUp returns a channel that the next check closes that finds a node up. A node can be up all
// the time and still not accept a connection in time, so each such check is a reason to try again.
func (s *nodes) waitUp() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUp
}

// stats returns a snapshot of all nodes, in the order of the configuration.
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
