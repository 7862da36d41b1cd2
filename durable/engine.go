// Package durable is the engine of tasks that survive: it accepts them, lets nodes claim
// them, has them run, records what became of them, and tells whoever waits. The truth is
// in a store, and every promise is a guarded step there; the engine decides when which
// step is asked for, and loses nothing when it dies between two of them:
//
//	accept ──→ publish ──→ claim ──→ run ──→ record ──→ wait, watch
//	              ↑                   │renew            (events)
//	              └──── reap: promote, expire, take from the dead, delete
//
// A task that finds a free slot here is claimed by the accept itself. Callers and tasks share calls
// of the store: whatever waited while the last call ran goes into the next. No timer is involved, unless others
// use the store: then calls that follow each other closely keep a pace of milliseconds. An engine with nothing to do is woken by what
// happens; in between it looks around once in a Beat. Engines of one process share a Hub. Those
// of several processes that share a store tell each other through a broker, each by its mailbox; what
// comes that way is a hint, and what a hint did not tell is found within a second.
//
// What an action does is executor's affair; what an option means on the wire, and who may
// ask, is that of the doors.
package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/outage"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// Beat is how often an engine renews, tells that its node lives and looks around for
	// what it was not told of.
	Beat = task.LeaseRenew
	// storeTimeout bounds one call of the store, so that a store that hangs counts as away.
	storeTimeout = 30 * time.Second
	// acceptTimeout bounds one accept call of a store on another machine: whoever waits for it can try again, and should
	// know soon. It does not bound the calls that isolate a faulty task, since a store that refuses it is there.
	acceptTimeout = 2 * time.Second
	// sharedCrowd is how many must wait for a store on another machine before it is asked beside a
	// call that is under way: the statement costs as much as two dozen tasks in it.
	sharedCrowd = 128
	// sharedPace is how soon after the beginning of one claim, or record, the next one of few tasks may
	// begin where the store is on another machine: under load more come meanwhile. Whoever
	// comes less often does not wait.
	sharedPace = 4 * time.Millisecond
	// awayMin and awayMax bound the pause before a store that is away is asked again.
	awayMin = 50 * time.Millisecond
	awayMax = time.Second
	// cutGrace is how long an action may take to notice that a drain has ended its context.
	cutGrace = time.Second
	// releaseGrace is how long a drain waits for the store to take back what is unfinished.
	releaseGrace = 5 * time.Second
)

// Config is what New needs.
type Config struct {
	Store    store.Store        // needed; it stays the caller's
	Executor *executor.Executor // needed; it stays the caller's, and must outlive Run
	Node     string             // needed: a name that no other node has
	Hub      *Hub               // of the engines in this process that share the store; nil: alone
	Broker   broker.Broker      // between processes that share the store; nil: none. It stays the caller's
	Blobs    blob.Blobs         // for bodies of more than task.InlineBytes, which are refused without it; the caller's
	Actions  []string           // that the node works; nil: all that the executor has at the time
	Streams  func(string) bool  // which actions open a payload in blob storage by themselves; nil: none
	// Queues says which queues the node works; "*" stands for each that is not named; nil
	// means every queue.
	Queues map[string]QueueRule
	// Defaults are what options mean that an enqueue leaves out, by queue; "*" has what the queue does not say,
	// and task the rest.
	Defaults map[string]task.Defaults
	Slots    int  // attempts at once; 0: as many as the executor has slots
	Lone     bool // this engine, one of its process, claims tasks whose process died under them
	// Shared says that other processes use the store, which cannot wake this one: an engine that
	// has room then asks the store each second. A Broker implies it.
	Shared bool
	Beat   time.Duration  // how often the engine renews, and looks around for what it was not told of; 0: Beat
	Waits  int            // open waits and watches; 0: 100,000
	Logger *slog.Logger   // changes of tasks (debug), failed ones, a store that is away; nil: none
	Jitter func() float64 // 0 to 1: where in its window another attempt starts; nil: by chance
	Now    func() time.Time
}

// QueueRule says how a node works a queue.
type QueueRule struct {
	Running int // attempts at once on this node; 0: as many as there are slots
}

// Engine works durable tasks. Its methods are safe for concurrent use. What needs the
// store waits for Run to begin.
type Engine struct {
	config  Config
	hub     *Hub
	mailbox *mailbox.Mailbox // nil without a broker
	source  *executor.Source
	started time.Time
	ids     ids
	counts  counts
	byQueue perQueue

	accepts *batch.Batcher[task.Task, store.Accepted]
	reads   *batch.Batcher[string, found]
	faults  faults
	hands   *inflight
	ahead   *prefetch
	slots   chan struct{} // for the feed
	subs    *subscribers
	bodies  bodies
	records outbox
	rates   rates
	nodes   atomic.Pointer[[]store.Node] // as of the last beat

	calmBeats atomic.Int64 // since a node started that shares the store

	wake     chan struct{} // for the claims
	left     atomic.Bool   // limits of queues and actions may have left tasks in the store
	heldOver *time.Timer   // looks for tasks of an action that was held back
	more     atomic.Bool   // the store may have tasks for us
	suspects atomic.Bool   // the store may have suspects for us

	starts   batch.Gate   // for accepts that may start tasks
	starting atomic.Int64 // tasks that they may start

	lastClaimed  int64         // tasks, when the claims last looked whether any come
	claims       batch.Pace    // for the claims
	companySince time.Time     // since when the claims look for suspects beside those that run; zero: they do not
	nextCompany  *time.Timer   // asks for more of them
	tend         chan struct{} // for the reaper
	base         time.Time     // when the engine was made
	nextDue      atomic.Int64  // when the reaper wakes by itself, in nanoseconds since base
	storeAhead   atomic.Int64  // how far the store's clock is ahead of ours, in nanoseconds, as of the last tend
	news         chan struct{} // for progress
	gap          chan struct{} // for the poll: events were lost
	doubts       chan struct{} // for the renewer: an attempt may be one that shall stop
	marks        chan struct{} // for the marker: an action was entered
	pauses       pauses

	away outages

	parts    sync.WaitGroup // all goroutines of Run
	running  atomic.Bool    // Run has begun
	draining atomic.Bool
	quit     chan struct{} // closed when a drain begins
	claimed  chan struct{} // closed when no claim will be made any more
}

// New makes an engine. Run starts it.
func New(config Config) (*Engine, error) {
	switch {
	case config.Store == nil || config.Executor == nil:
		return nil, errors.New("durable: a store and an executor are needed")
	case config.Node == "":
		return nil, errors.New("durable: a name of the node is needed")
	case config.Slots < 0 || config.Waits < 0 || config.Beat < 0:
		return nil, errors.New("durable: slots, waits and the beat cannot be negative")
	}
	if refusal := task.CheckName("the name of the node", config.Node); refusal != nil {
		return nil, fmt.Errorf("durable: %s: %q", refusal.Message, config.Node)
	}
	for queue, rule := range config.Queues {
		if rule.Running < 0 {
			return nil, fmt.Errorf("durable: queue %s: running cannot be negative", queue)
		}
	}
	for _, name := range config.Actions {
		if !slices.Contains(config.Executor.Actions(), name) {
			return nil, fmt.Errorf("durable: the executor has no action %q", name)
		}
	}
	config = config.withDefaults()
	away := outages{
		store: &outage.Part{Name: "the store", Logger: config.Logger}, blobs: &outage.Part{Name: "blob storage", Logger: config.Logger},
	}
	config.Store = &watchedStore{config.Store, away.store}
	e := &Engine{
		away:   away,
		config: config, hub: config.Hub, source: config.Executor.NewSource(), started: config.Now(),
		hands: newInflight(), slots: make(chan struct{}, 1), subs: newSubscribers(config.Waits, refuseDraining),
		bodies: bodies{Blobs: config.Blobs, Answered: blobsAnswered(away.blobs), Logger: config.Logger},
		wake:   make(chan struct{}, 1), tend: make(chan struct{}, 1), news: make(chan struct{}, 1),
		gap: make(chan struct{}, 1), doubts: make(chan struct{}, 1), marks: make(chan struct{}, 1),
		quit: make(chan struct{}), claimed: make(chan struct{}),
	}
	e.base = time.Now()
	e.records.wake, e.pauses.look = make(chan struct{}, 1), make(chan struct{}, 1)
	e.nextCompany = time.AfterFunc(time.Hour, e.askForCompany)
	e.nextCompany.Stop()
	e.heldOver = time.AfterFunc(time.Hour, e.lookForHeld)
	e.heldOver.Stop()
	e.ahead = newPrefetch(config.Slots, func() { poke(e.slots) })
	e.claims = e.sharedPace()
	crowd := 0
	if config.Shared {
		crowd = sharedCrowd
	}
	e.accepts = batch.New(batch.Config[task.Task, store.Accepted]{Call: e.acceptAll, Most: acceptMost, Timeout: storeTimeout, Crowd: crowd})
	if config.Broker != nil {
		e.mailbox = e.newMailbox()
	}
	e.reads = batch.New(batch.Config[string, found]{Call: e.readAll, Most: readMost, Timeout: storeTimeout, Crowd: crowd})
	return e, nil
}

func (c Config) withDefaults() Config {
	if c.Hub == nil {
		c.Hub = NewHub()
	}
	if c.Slots == 0 {
		c.Slots, _ = c.Executor.Limits()
	}
	c.Shared = c.Shared || c.Broker != nil
	if c.Beat == 0 {
		c.Beat = Beat
	}
	if c.Waits == 0 {
		c.Waits = 100_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Run works tasks until ctx ends; what is unfinished then is given back (call Drain before
// to let it finish). It returns when all inside has stopped. An engine runs once.
func (e *Engine) Run(ctx context.Context) error {
	if e.running.Swap(true) {
		return errors.New("durable: an engine runs once")
	}
	// The parts outlive ctx, since giving back what is unfinished needs them.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts := &e.parts
	for _, part := range []func(context.Context){
		e.accepts.Run, e.reads.Run, e.record, e.renew, e.reap, e.poll, e.announce, e.collect, e.feed, e.mark, e.watchPauses,
	} {
		parts.Go(func() { part(life) })
	}
	e.beat(life)
	e.hub.join(e)
	parts.Go(func() { e.claim(life) })
	if e.mailbox != nil {
		parts.Go(func() { e.mailbox.Run(life, e.quit) })
	}
	<-ctx.Done()
	e.Drain(ctx)
	fail.Point("drain.ended")
	e.hub.leave(e)
	stop()
	parts.Wait()
	return nil
}

// Drain stops claims and accepts and ends waits, lets running attempts finish until ctx
// ends, then ends their contexts and gives the tasks back, which costs them no attempt. It
// returns when the store has them, or when that takes too long.
func (e *Engine) Drain(ctx context.Context) {
	if !e.draining.Swap(true) {
		close(e.quit)
		e.subs.Drain()
	}
	if !e.running.Load() {
		return
	}
	for _, under := range []<-chan struct{}{e.claimed, e.starts.Shut()} {
		select {
		case <-under:
		case <-ctx.Done():
			within(under, releaseGrace) // a claim or an accept is under way, and the store is slow
		}
	}
	fail.Point("drain.begun")
	e.hands.Close()
	for _, h := range e.hands.All() {
		e.giveUp(h)
	}
	empty := e.hands.WhenEmpty()
	select {
	case <-empty:
		return
	case <-ctx.Done():
	}
	for _, h := range e.hands.All() {
		e.stopAttempt(h, stopDrained)
	}
	if within(empty, cutGrace) {
		return
	}
	for _, h := range e.hands.All() {
		e.abandon(h) // its action ignores its context
	}
	within(empty, releaseGrace)
}

// within waits for a channel to be closed, but not longer than d.
func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// poke wakes a part of the engine; one poke is as good as many.
func poke(part chan struct{}) {
	select {
	case part <- struct{}{}:
	default:
	}
}

// pause waits for d or for the end of ctx, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool { return pauseOr(ctx, d, nil) }

// pauseOr is a pause that ends when it is woken.
func pauseOr(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-wake:
		return true
	case <-ctx.Done():
		return false
	}
}

// sharedPace is the pace of calls where each costs a way to another machine.
func (e *Engine) sharedPace() batch.Pace {
	if !e.config.Shared {
		return batch.Pace{}
	}
	return batch.Pace{Every: sharedPace}
}

// refusalOf gives the refusal that an error of the store is. The words of another error are for the log.
func (e *Engine) refusalOf(err error) *task.Error {
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	e.config.Logger.Error("the store failed", "error", err)
	return task.Refuse(task.Internal, "the store failed; the node's log says why")
}

// refuseDraining refuses what a node that is about to stop does not begin, or ends.
func refuseDraining(id string) *task.Error {
	refusal := task.Refuse(task.Draining, "this node is about to stop; ask another one")
	refusal.Task = id
	return refusal
}

// pid is the number of this process, for the register of nodes.
func pid() int { return os.Getpid() }
