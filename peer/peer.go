// Package peer passes direct runs on to other nodes: runs of actions that this node does not have, and runs for which it has
// no free slot.
//
//	client ──run──→ this node ──run, passed_on──→ another node ──→ its worker, or its own action
//	       ←─reply─           ←─────reply───────
//
// Nodes know each other from the store: each writes its address, its actions and its free slots into its row with every
// heartbeat. A run travels as a line of the protocol, with a mark that keeps the other node from passing it on again. All
// runs to a node share a few connections.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
)

const (
	// connections is how many connections to one node are open at most.
	connections = 2
	// idle closes a connection within twice this time after its last run.
	idle = time.Minute
	// dialTimeout is short, since another node may have the action as well.
	dialTimeout = 2 * time.Second
	// awayPause is how long a node that could not be reached gets no runs.
	awayPause = time.Second
	// fullPause is how long a node that was full gets no runs, unless one that it has for this node ends.
	fullPause = 100 * time.Millisecond
	// learnPause is the shortest time between two reads of the nodes because of an action that no known node has.
	learnPause = time.Second
	// answerGrace is how long after its timeout, and the wait for a slot, a run may go without an answer.
	answerGrace = 5 * time.Second
	// triesMost is how many nodes are tried for one run.
	triesMost = 4
)

// Config configures Peers.
type Config struct {
	Self string // the name of this node
	// Known returns the live nodes as of the last heartbeat; nil: none are known yet. It is called often.
	Known func() *[]task.Node
	// Learn reads the live nodes again.
	Learn func(ctx context.Context)
	// Dial connects to the address of another node.
	Dial      func(ctx context.Context, addr string) (net.Conn, error)
	Token     string        // is sent to other nodes first; "": none is
	LineBytes int           // the longest line that nodes accept; 0: the client's default
	MaxResult int           // the largest result in bytes; 0: task.DefaultResultBytes
	PoolWait  time.Duration // how long another node waits for a slot; 0: task.DefaultPoolWait
	Logger    *slog.Logger  // nil: none
}

// Peers are the other nodes. It implements executor.Peers, and is safe for concurrent use. The caller calls Close.
type Peers struct {
	config  Config
	view    atomic.Pointer[view]
	learned atomic.Int64 // when the nodes were read because of an unknown action, by now
	base    time.Time
	stats   [2]atomic.Int64 // runs that were passed on, by reason

	mu      sync.Mutex // guards the fields below, and those of links
	links   map[string]*link
	closed  bool
	closing sync.WaitGroup
}

// link is the way to another node.
type link struct {
	addr   string
	client *client.Client
	open   int   // runs that the node has
	away   int64 // until when it gets no runs, since it cannot be reached, by Peers.now
	full   int64 // until when it gets no runs, since it has no room, by Peers.now
}

// view is the nodes, by action.
type view struct {
	from     *[]task.Node
	byAction map[string][]*task.Node // without this node
	others   int
}

// New returns Peers.
func New(config Config) *Peers {
	if config.MaxResult == 0 {
		config.MaxResult = task.DefaultResultBytes
	}
	if config.PoolWait == 0 {
		config.PoolWait = task.DefaultPoolWait
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Peers{config: config, base: time.Now(), links: map[string]*link{}}
	p.learned.Store(-int64(learnPause))
	return p
}

// Close ends the connections and waits for their goroutines. No run may be under way.
func (p *Peers) Close() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.links {
		_ = l.client.Close()
	}
	p.mu.Unlock()
	p.closing.Wait()
}

// Stats returns the number of runs that were passed on since the start: because the action is missing, and because this node
// is full.
func (p *Peers) Stats() (missing, full int64) { return p.stats[0].Load(), p.stats[1].Load() }

func (p *Peers) count(why task.PassedOn) {
	if why == task.PassedOnFull {
		p.stats[1].Add(1)
	} else {
		p.stats[0].Add(1)
	}
}

func (p *Peers) now() int64 { return int64(time.Since(p.base)) }

// nodes returns the current view.
func (p *Peers) nodes() *view {
	known, v := p.config.Known(), p.view.Load()
	if v != nil && v.from == known {
		return v
	}
	v = &view{from: known, byAction: map[string][]*task.Node{}}
	if known != nil {
		for i := range *known {
			n := &(*known)[i]
			if n.Name == p.config.Self {
				continue
			}
			v.others++
			for _, action := range n.Actions {
				v.byAction[action] = append(v.byAction[action], n)
			}
		}
	}
	p.view.Store(v)
	p.prune(v)
	return v
}

// prune forgets the ways to nodes that have gone.
func (p *Peers) prune(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, l := range p.links {
		live := v.from != nil && slices.ContainsFunc(*v.from, func(n task.Node) bool { return n.Address == addr })
		if live || l.open > 0 || p.closed {
			continue
		}
		delete(p.links, addr)
		p.closing.Go(func() { _ = l.client.Close() })
	}
}

// mayLearn reports whether the nodes were not read lately because of an unknown action.
func (p *Peers) mayLearn() bool { return p.now()-p.learned.Load() >= int64(learnPause) }

// learn reads the nodes again, unless that was done lately.
func (p *Peers) learn(ctx context.Context) {
	if last := p.learned.Load(); p.now()-last >= int64(learnPause) && p.learned.CompareAndSwap(last, p.now()) {
		p.config.Learn(ctx)
	}
}

// Has implements executor.Peers. A task of an action that no known node has is given to Route once in learnPause, since a
// node may have it by now.
func (p *Peers) Has(action string) bool {
	return slices.ContainsFunc(p.nodes().byAction[action], hasAddress) || p.mayLearn()
}

func hasAddress(n *task.Node) bool { return n.Address != "" }

// Unknown implements executor.Peers.
func (p *Peers) Unknown(action string) string {
	v := p.nodes()
	list := v.byAction[action]
	i := slices.IndexFunc(list, hasAddress)
	switch {
	case v.others == 0:
		return "unknown action " + action
	case len(list) == 0:
		return fmt.Sprintf("unknown action %s: no live node has it", action)
	case i < 0:
		return fmt.Sprintf("action %s is not on this node; node %s has it, but does not advertise an address to other nodes", action, list[0].Name)
	}
	return fmt.Sprintf("action %s is not on this node, and node %s does not have it any more", action, list[i].Name)
}

// Route implements executor.Peers.
func (p *Peers) Route(action string, why task.PassedOn) executor.Route {
	if why == task.PassedOnFull {
		n, l := p.choose(action, why, nil)
		if l == nil {
			return nil
		}
		return func(ctx context.Context, t executor.Task) executor.Passed { return p.relieve(ctx, t, n, l) }
	}
	if !p.Has(action) {
		return nil
	}
	return p.run
}

// choose returns the node for a run, and counts the run as one that it has. It returns nil if there is none.
func (p *Peers) choose(action string, why task.PassedOn, tried []string) (best *task.Node, way *link) {
	list := p.nodes().byAction[action]
	if len(list) == 0 {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	most := 0
	for _, n := range list {
		l, open := p.links[n.Address], 0
		if l != nil {
			open = l.open
		}
		switch {
		case n.Address == "" || slices.Contains(tried, n.Address) || p.closed:
			continue
		case l != nil && l.away > now:
			continue
		case why == task.PassedOnFull && (open >= n.Slots || l != nil && l.full > now):
			continue
		}
		if room := n.Free - open; best == nil || room > most {
			best, most = n, room
		}
	}
	if best == nil {
		return nil, nil
	}
	way = p.link(best.Address)
	if way != nil {
		way.open++
	}
	return best, way
}

// link returns the way to an address. The caller holds mu.
func (p *Peers) link(addr string) *link {
	if l := p.links[addr]; l != nil {
		return l
	}
	c, err := client.New(client.Config{
		Dial:  func(ctx context.Context) (net.Conn, error) { return p.config.Dial(ctx, addr) },
		Token: p.config.Token, Connections: connections, Window: client.MaxWindow, DialTimeout: dialTimeout, ConnectWait: -1, Idle: idle,
		LineBytes: p.config.LineBytes,
	})
	if err != nil {
		p.config.Logger.Error("other nodes cannot be reached", "error", err)
		return nil
	}
	l := &link{addr: addr, client: c}
	p.links[addr] = l
	return l
}

// relieve passes on a run for which this node has no slot.
func (p *Peers) relieve(ctx context.Context, t executor.Task, n *task.Node, l *link) executor.Passed {
	sent := p.send(ctx, t, task.PassedOnFull, n, l)
	switch {
	case sent.result != nil:
		return executor.Passed{Result: sent.result}
	case ctx.Err() != nil:
		return executor.Passed{}
	}
	return executor.Passed{Busy: true} // it runs here, as if nobody had been asked
}

// run passes on a run whose action this node does not have.
func (p *Peers) run(ctx context.Context, t executor.Task) executor.Passed {
	action := string(t.Action)
	if !slices.ContainsFunc(p.nodes().byAction[action], hasAddress) {
		p.learn(ctx)
	}
	var tried []string
	var last sent
	for range triesMost {
		n, l := p.choose(action, task.PassedOnMissing, tried)
		if l == nil {
			break
		}
		if !p.awaitRoom(ctx, l) {
			p.done(l)
			return executor.Passed{}
		}
		last = p.send(ctx, t, task.PassedOnMissing, n, l)
		switch {
		case last.result != nil:
			return executor.Passed{Result: last.result}
		case ctx.Err() != nil:
			return executor.Passed{}
		case last.full:
			return executor.Passed{Busy: true}
		}
		tried = append(tried, n.Address)
	}
	switch {
	case last.refusal != nil:
		return executor.Passed{Refusal: last.refusal}
	case last.failure != "":
		return executor.Passed{Result: executor.FailedResult(last.failure)}
	case len(tried) == 0 && slices.ContainsFunc(p.nodes().byAction[action], hasAddress):
		return executor.Passed{Result: executor.FailedResult(p.unreachable(action))}
	}
	return executor.Passed{Nowhere: true}
}

// unreachable returns the failure of a run whose nodes could not be reached a moment ago.
func (p *Peers) unreachable(action string) string {
	list := p.nodes().byAction[action]
	n := list[slices.IndexFunc(list, hasAddress)]
	return fmt.Sprintf("action %s is not on this node, and node %s, which has it, cannot be reached at %s", action, n.Name, n.Address)
}

// awaitRoom waits while a node is known to have no room. It returns false if ctx ends.
func (p *Peers) awaitRoom(ctx context.Context, l *link) bool {
	p.mu.Lock()
	rest := l.full - p.now()
	p.mu.Unlock()
	if rest <= 0 {
		return true
	}
	timer := time.NewTimer(time.Duration(rest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// done counts a run that a node does not have any more.
func (p *Peers) done(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.open--
}

// sent is what became of a run that was sent to one node.
type sent struct {
	result  []byte      // the result object
	full    bool        // the node has no room
	refusal *task.Error // the node has refused the run for another reason
	failure string      // the node could not be reached
}

// send sends a run to a node and waits for its end. Unless there is a result, the run has not begun there.
func (p *Peers) send(ctx context.Context, t executor.Task, why task.PassedOn, n *task.Node, l *link) sent {
	p.count(why)
	call, cancel := context.WithTimeout(ctx, t.Timeout+p.config.PoolWait+answerGrace)
	defer cancel()
	result, err := l.client.Do(call, client.Request{Action: string(t.Action), Payload: t.Payload, Timeout: t.Timeout, PassedOn: why})
	outcome := p.judge(ctx, result, err, t, n)
	p.mu.Lock()
	defer p.mu.Unlock()
	l.open--
	switch {
	case outcome.result != nil:
		l.full = 0
	case outcome.full:
		l.full = p.now() + int64(fullPause)
	case ctx.Err() != nil:
	case outcome.failure != "":
		l.away = p.now() + int64(awayPause)
	case why == task.PassedOnFull: // it refuses what this node would have it run
		l.full = p.now() + int64(awayPause)
	}
	return outcome
}

// judge returns what the outcome of a call means.
func (p *Peers) judge(ctx context.Context, result client.Result, err error, t executor.Task, n *task.Node) sent {
	var failed *client.ActionError
	var refusal *task.Error
	switch {
	case ctx.Err() != nil:
		return sent{}
	case err == nil || errors.As(err, &failed):
		if size := len(result.JSON()); size > p.config.MaxResult {
			return sent{result: executor.FailedResult(fmt.Sprintf("the result has %d bytes, at most %d are allowed", size, p.config.MaxResult))}
		}
		return sent{result: result.JSON()}
	case !errors.As(err, &refusal):
	case refusal.Code == task.UnknownOutcome:
		return p.lost(err, t, n)
	case refusal.Code == task.Overloaded && refusal.Limit == "slots":
		return sent{full: true}
	case refusal.Code == task.NotFound:
		return sent{}
	case refusal.Code != task.Draining && refusal.Code != task.Unauthenticated:
		return sent{refusal: refusal}
	}
	p.config.Logger.Warn("another node cannot be reached", "peer", n.Name, "addr", n.Address, "error", err)
	return sent{failure: fmt.Sprintf("action %s is not on this node, and node %s, which has it, cannot be reached at %s: %v", t.Action, n.Name, n.Address, err)}
}

// lost returns what becomes of a run that a node may have begun and has not answered.
func (p *Peers) lost(err error, t executor.Task, n *task.Node) sent {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return sent{result: executor.FailedResult(executor.TimedOutText(t.Timeout))}
	case slices.Contains(n.Idempotent, string(t.Action)):
		return sent{failure: "the node that ran it has gone"}
	}
	return sent{result: executor.FailedResult("the node that ran it has gone")}
}
