// Package durable is the engine of durable tasks. It accepts tasks, claims them for its node, runs them with the
// executor, records their outcomes, and notifies clients that wait. The store keeps all state, and every promise is
// a guarded step there. The engine decides when to make which step, and loses nothing if it dies between two of
// them:
//
//	accept ──→ publish ──→ claim ──→ run ──→ record ──→ wait, watch
//	  ↑                   │renew            (events)
//	  └──── maintenance: promote, expire, reap, delete
//
// If the engine has a free slot for a new task, the accept also claims it. Callers and tasks share calls of the
// store: all requests that arrive during a call go into the next one. There is no timer, unless other processes use
// the store: then calls that follow each other quickly are a few milliseconds apart. An idle engine is woken by
// events, and looks for work once in a Beat.
//
// Engines of one process share a Hub. Engines of several processes that share a store send each other hints through
// a broker, each by its mailbox. A task whose hint is lost is found by the next poll of the store.
//
// The executor runs actions. The doors define what an option means on the wire, and check who may ask.
package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/outage"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

const (
	// Beat is how often an engine renews its leases, sends a heartbeat, and looks for tasks without hints.
	Beat = task.LeaseRenew
	// storeTimeout is the timeout of one call of the store. A store that does not answer in time counts as away.
	storeTimeout = 30 * time.Second
	// acceptTimeout is the timeout of one accept call of a store on another machine: the caller can try again, and
	// should know soon. It does not apply to the calls that isolate a faulty task, since a store that refuses a
	// task is not away.
	acceptTimeout = 2 * time.Second
	// sharedConcurrentFrom is how many requests must wait for a store on another machine before a second call is made at the
	// same time. A statement costs as much as two dozen tasks in it.
	sharedConcurrentFrom = 128
	// sharedPace is the least time between the beginnings of two claims, or records, with few tasks, if the store
	// is on another machine. Under load more tasks join them meanwhile. An engine that calls less often does not
	// wait.
	sharedPace = 4 * time.Millisecond
	// awayMin and awayMax are the shortest and the longest pause before a store that is away is called again.
	awayMin = 50 * time.Millisecond
	awayMax = time.Second
	// cutGrace is how long a drain waits for actions after it has ended their contexts.
	cutGrace = time.Second
	// releaseGrace is how long a drain waits until the store has released unfinished tasks.
	releaseGrace = 5 * time.Second
)

// Config configures an Engine. The caller closes the store, the broker and the blob storage.
type Config struct {
	Store    store.Store        // required
	Executor *executor.Executor // required; it must outlive Run
	Node     string             // required: a name that no other node has
	Hub      *Hub               // shared by the engines of this process that use the store; nil: there is only this one
	Broker   broker.Broker      // between processes that share the store; nil: none
	Blobs    blob.Blobs         // for bodies larger than task.InlineBytes; nil: these are refused
	Actions  []string           // the actions of the node; nil: all current actions of the executor
	Workers  *worker.Pool       // the workers that are connected to the process; nil: none
	// SignLeases limits each lease to the client that received it, by a signature in the lease. It is for nodes that
	// authenticate clients.
	SignLeases bool
	Streams    func(string) bool // reports whether an action opens a payload in blob storage itself; nil: none does
	// Queues has the queues that the node works; "*" is every queue that is not named; nil means every queue.
	Queues map[string]QueueRule
	// Defaults has the options by queue that an enqueue gets if it does not set them. "*" is every queue without a
	// value of its own; package task has the rest.
	Defaults     map[string]task.Defaults
	Slots        int  // attempts that run at once; 0: the number of slots of the executor
	RunsSuspects bool // this engine claims suspects; set it for one engine of the process
	// Shared says that other processes use the store. They cannot wake this engine, so it polls the store each
	// second while it has capacity. A Broker implies it.
	Shared bool
	// Present completes the row of the node, which other nodes read, before each heartbeat. It must return quickly. nil: the
	// row needs nothing more.
	Present func(*store.Node)
	Beat    time.Duration  // how often the engine renews leases and looks for tasks without hints; 0: Beat
	Waits   int            // open waits and watches; 0: 100,000
	Logger  *slog.Logger   // logs changes of tasks (debug), failed attempts and outages; nil: no logs
	Jitter  func() float64 // returns 0 to 1, the position of the next attempt in its time window; nil: random
	Now     func() time.Time
}

// QueueRule is the rule of a queue on a node.
type QueueRule struct {
	Running int // attempts that run at once on this node; 0: only the slots limit them
}

// Engine works durable tasks. Its methods are safe for concurrent use. Calls of the store wait until Run has begun.
//
// An engine wires its parts. Each part that lives as long as the engine has its own fields, its own signal and a
// method Run.
type Engine struct {
	*core
	bodies    bodies
	mailbox   *mailbox.Mailbox // nil without a broker
	subs      *subscribers
	publisher *publisher
	registry  *registry
	pauses    *pauses

	acceptor    *acceptor
	claimer     *claimer
	launcher    *launcher
	marker      *marker
	leases      *leases
	recorder    *recorder
	maintenance *maintenance
	poller      *poller
	progress    *progressReporter
	dispatcher  *dispatcher
}

// New returns an engine, or an error that names a missing or wrong field of config. The caller must call Run.
func New(config Config) (*Engine, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	away := outages{
		store: &outage.Part{Name: "the store", Logger: config.Logger}, blobs: &outage.Part{Name: "blob storage", Logger: config.Logger},
	}
	config.Store = &watchedStore{config.Store, away.store}
	c := &core{config: config, hub: config.Hub, attempts: newInflight(), outages: away, quit: make(chan struct{})}
	e := &Engine{
		core: c, subs: newSubscribers(config.Waits, refuseDraining),
		bodies: bodies{Blobs: config.Blobs, Answered: blobsAnswered(away.blobs), Logger: config.Logger},
	}
	concurrentFrom := 0
	if config.Shared {
		concurrentFrom = sharedConcurrentFrom
	}
	c.reads = batch.New(batch.Config[string, found]{Call: c.readAll, Most: readMost, Timeout: storeTimeout, ConcurrentFrom: concurrentFrom})
	e.registry = &registry{core: c, started: config.Now(), changed: wait.NewSignal()}
	e.poller = &poller{core: c, subs: e.subs, gap: wait.NewSignal()}
	e.publisher = &publisher{core: c, registry: e.registry}
	e.progress = &progressReporter{core: c, publisher: e.publisher}
	e.marker = &marker{core: c, publisher: e.publisher}
	e.recorder = &recorder{core: c, publisher: e.publisher, wake: wait.NewSignal()}
	e.launcher = newLauncher(c, e.bodies, e.recorder)
	capacity := &capacity{core: c, launcher: e.launcher, recorder: e.recorder}
	e.claimer = newClaimer(c, capacity, e.launcher, e.registry)
	e.pauses = &pauses{core: c, claimer: e.claimer, launcher: e.launcher, registry: e.registry, changed: wait.NewSignal()}
	e.leases = &leases{core: c, launcher: e.launcher, registry: e.registry, claimer: e.claimer}
	e.maintenance = newMaintenance(c, e.publisher, e.bodies)
	e.acceptor = &acceptor{core: c, capacity: capacity, claimer: e.claimer, launcher: e.launcher, publisher: e.publisher, registry: e.registry, bodies: e.bodies}
	e.acceptor.shared = batch.New(batch.Config[task.Task, store.Accepted]{Call: e.acceptor.acceptAll, Most: acceptMost, Timeout: storeTimeout, ConcurrentFrom: concurrentFrom})
	e.dispatcher = newDispatcher(c, capacity, e.claimer, e.launcher, e.recorder, e.maintenance)
	e.launcher.dispatcher, e.pauses.dispatcher, e.registry.dispatcher = e.dispatcher, e.dispatcher, e.dispatcher
	e.dispatcher.registry = e.registry
	e.launcher.claimer, e.recorder.claimer, e.registry.pauses = e.claimer, e.claimer, e.pauses
	if config.Broker != nil {
		e.mailbox = e.newMailbox()
		e.publisher.mailbox, e.claimer.mailbox, e.pauses.mailbox, e.acceptor.mailbox = e.mailbox, e.mailbox, e.mailbox, e.mailbox
	}
	return e, nil
}

// check returns what is wrong with a configuration.
func (c Config) check() error {
	switch {
	case c.Store == nil || c.Executor == nil:
		return errors.New("durable: a store and an executor are needed")
	case c.Node == "":
		return errors.New("durable: a name of the node is needed")
	case c.Slots < 0 || c.Waits < 0 || c.Beat < 0:
		return errors.New("durable: slots, waits and the beat cannot be negative")
	}
	if refusal := task.CheckName("the name of the node", c.Node); refusal != nil {
		return fmt.Errorf("durable: %s: %q", refusal.Message, c.Node)
	}
	for queue, rule := range c.Queues {
		if rule.Running < 0 {
			return fmt.Errorf("durable: queue %s: running cannot be negative", queue)
		}
	}
	for _, name := range c.Actions {
		if !slices.Contains(c.Executor.Actions(), name) {
			return fmt.Errorf("durable: the executor has no action %q", name)
		}
	}
	return nil
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

// works reports whether the node has the action and the queue of a task.
func (c *core) works(t *task.Task) bool {
	return slices.Contains(c.actions(), t.Action) && c.config.worksQueue(t.Queue)
}

// worksQueue reports whether the node works a queue.
func (c *Config) worksQueue(queue string) bool {
	if c.Queues == nil {
		return true
	}
	_, named := c.Queues[queue]
	_, others := c.Queues["*"]
	return named || others
}

// Run works tasks until ctx ends. Then it releases unfinished tasks; call Drain before to let them finish. Run
// returns when all parts have stopped. Call it once.
func (e *Engine) Run(ctx context.Context) error {
	if e.running.Swap(true) {
		return errors.New("durable: an engine runs once")
	}
	// The parts outlive ctx, since releasing tasks needs them.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, run := range []func(context.Context){
		e.acceptor.shared.Run, e.reads.Run, e.launcher.Run, e.marker.Run, e.leases.Run, e.recorder.Run,
		e.maintenance.Run, e.maintenance.collectOrphans, e.poller.Run, e.progress.Run, e.pauses.Run,
	} {
		e.goroutines.Go(func() { run(life) })
	}
	e.registry.beat(life)
	e.hub.join(e)
	e.goroutines.Go(func() { e.claimer.Run(life) })
	e.goroutines.Go(func() { e.dispatcher.Run(life) })
	e.goroutines.Go(func() { e.dispatcher.Reap(life) })
	if e.mailbox != nil {
		e.goroutines.Go(func() { e.mailbox.Run(life, e.quit) })
	}
	<-ctx.Done()
	e.Drain(ctx)
	fail.Point("drain.ended")
	e.hub.leave(e)
	stop()
	e.goroutines.Wait()
	return nil
}

// Drain stops claims and accepts, and ends waits. It lets running attempts finish until ctx ends, then ends their
// contexts and releases the tasks, which does not count as an attempt. It returns when the store has released them,
// or after a time limit.
func (e *Engine) Drain(ctx context.Context) {
	if !e.draining.Swap(true) {
		<-e.operations.Shut()
		close(e.quit)
		e.subs.Drain()
	}
	if !e.running.Load() {
		return
	}
	for _, over := range []<-chan struct{}{e.claimer.done, e.dispatcher.done, e.acceptor.starts.Shut()} {
		select {
		case <-over:
		case <-ctx.Done():
			within(over, releaseGrace) // a claim or an accept is still running: the store is slow
		}
	}
	fail.Point("drain.begun")
	e.attempts.Close()
	for _, a := range e.attempts.All() {
		e.launcher.giveUp(a)
	}
	empty := e.attempts.WhenEmpty()
	select {
	case <-empty:
		return
	case <-ctx.Done():
	}
	e.dispatcher.leaveToWorkers()
	for _, a := range e.attempts.All() {
		e.launcher.stop(a, stopDrained)
	}
	if within(empty, cutGrace) {
		return
	}
	for _, a := range e.attempts.All() {
		e.launcher.abandon(a) // its action ignores its context
	}
	within(empty, releaseGrace)
}

// within waits until done is closed, but not longer than d.
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
