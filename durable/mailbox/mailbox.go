// Package mailbox connects an engine to a broker: it sends hints and events to nodes of other processes, and
// receives theirs. Everything in it is a hint. So each direction has a limit, hints beyond it are dropped and
// counted, and only the goroutines of this package wait for the broker. A broker that is away, refuses or blocks
// only costs time:
//
//	Offer ──→ hints ──→ Publish ···→ Take ──→ Next, Done         ids of queued tasks
//	Send  ──→ events ─→ Broadcast ·→ Next ──→ Config.Receive     changes of tasks
//
// The engine decides when to claim a task, and what an event means to subscribers.
package mailbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/wait"
)

const (
	// hintsMost is how many hints may wait for the broker. Polling finds the others.
	hintsMost = 20_000
	// batchMost is the largest number of hints or events in one call.
	batchMost = 1_000
	// eventsMost is how many events may wait for the broker. A subscriber that misses one reads the store.
	eventsMost = 20_000
	// publishTimeout is the timeout of one Publish, in case the broker blocks.
	publishTimeout = 5 * time.Second
	// lastTimeout is the timeout of the last Publish when the engine stops.
	lastTimeout = time.Second
	// startedWait is how long the event that a task has started waits for other events.
	startedWait = 5 * time.Millisecond
	// awayMin and awayMax are the shortest and the longest pause before a broker that refuses is called again.
	awayMin = 50 * time.Millisecond
	awayMax = time.Second
)

// Config configures a Mailbox. Its functions must return at once, and may be called from several goroutines.
type Config struct {
	Broker   broker.Broker // the caller closes it
	Interest broker.Interest
	// Want returns the ids that the engine could claim now; a Limit of 0 means none.
	Want func() broker.Want
	Wake func() // there are ids for Next
	// Behind is called when the store may have tasks without hints.
	Behind  func()
	Receive func([]broker.Event)
	Missed  func() // events were lost
	// Refused is called for a task whose hint the broker refuses although it is not away. It may be nil.
	Refused func(id string, err error)
}

// Mailbox connects an engine to a broker. Its methods are safe for concurrent use.
type Mailbox struct {
	config Config
	hints  *outbox[broker.Hint]
	events *outbox[broker.Event]
	inbox  *inbox
	paused paused
	hurry  wait.Signal // set when an event must be sent at once

	published, lost, taken, missed atomic.Int64
}

// New returns a Mailbox. It sends nothing until Run is called.
func New(config Config) *Mailbox {
	if config.Refused == nil {
		config.Refused = func(string, error) {}
	}
	return &Mailbox{
		config: config,
		hints:  newOutbox[broker.Hint](hintsMost), events: newOutbox[broker.Event](eventsMost),
		inbox: newInbox(), hurry: wait.NewSignal(),
	}
}

// Run sends and receives until ctx ends. It takes ids only until quit is closed. It returns when all its goroutines
// have ended.
func (m *Mailbox) Run(ctx context.Context, quit <-chan struct{}) {
	taking, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { m.publish(ctx) })
	parts.Go(func() { m.broadcast(ctx) })
	parts.Go(func() { m.listen(ctx) })
	parts.Go(func() { m.take(taking) })
	select {
	case <-quit:
	case <-ctx.Done():
	}
	stop()
	parts.Wait()
}

// Stats counts since the start.
type Stats struct {
	Published int64 // hints that the broker accepted
	Dropped   int64 // hints that were dropped, or that the broker refused
	Taken     int64 // ids
	Sent      int64 // events that were broadcast
	Missed    int64 // events that were dropped, and gaps in received events
}

// Stats returns a snapshot.
func (m *Mailbox) Stats() Stats {
	return Stats{
		Published: m.published.Load(), Dropped: m.lost.Load() + m.hints.dropped.Load(), Taken: m.taken.Load(),
		Sent: m.events.sent.Load(), Missed: m.missed.Load() + m.events.dropped.Load(),
	}
}
