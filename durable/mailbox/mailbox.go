// Package mailbox is an engine's end of a broker: what it tells nodes of other processes, and
// what it hears from them. Everything that comes and goes here is a hint, so each way has a bound, what
// finds no room is dropped and counted, and nobody waits for the broker but this package's own
// goroutines. A broker that is away, refuses or blocks costs time, and nothing else:
//
//	Offer ──→ hints ──→ Publish ···→ Take ──→ Next, Done      ids of queued tasks
//	Tell  ──→ events ─→ Broadcast ·→ Next ──→ Config.Hear     what has changed
//
// When a task is claimed, and what an event means to those who wait, is the engine's affair.
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
	// hintsMost bounds the hints that wait for the broker; what is beyond is found by the poll.
	hintsMost = 20_000
	// batchMost bounds the hints, or the events, of one call.
	batchMost = 1_000
	// eventsMost bounds the events that wait for the broker; who misses one looks at the store.
	eventsMost = 20_000
	// publishTimeout bounds one Publish, lest a broker that blocks is waited for.
	publishTimeout = 5 * time.Second
	// lastTimeout bounds the Publish of what is left when the engine stops.
	lastTimeout = time.Second
	// companyWait is how long the news that tasks have begun waits for more to be told.
	companyWait = 5 * time.Millisecond
	// awayMin and awayMax bound the pause before a broker that refuses is asked again.
	awayMin = 50 * time.Millisecond
	awayMax = time.Second
)

// Config is what New needs. Its functions return at once, and may be called from several
// goroutines.
type Config struct {
	Broker   broker.Broker // it stays the caller's
	Interest broker.Interest
	// Room returns what the engine could claim now; a Limit of 0 means nothing.
	Room func() broker.Want
	Wake func() // ids have come, for Next
	// Behind is called when the store may have tasks of which no ids will come.
	Behind func()
	Hear   func([]broker.Event)
	Missed func() // events were lost
	// Refused is told of a task whose hint the broker cannot take, although it is there; nil: nobody is.
	Refused func(id string, err error)
}

// Mailbox is an engine's end of a broker. Its methods are safe for concurrent use.
type Mailbox struct {
	config Config
	hints  *outbox[broker.Hint]
	events *outbox[broker.Event]
	inbox  *inbox
	paused paused
	hurry  wait.Signal // poked when an event shall not wait

	published, lost, taken, missed atomic.Int64
}

// New makes one. What it is given waits for Run.
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

// Run carries what comes and goes until ctx ends; ids are taken until quit is closed only. It
// returns when nothing is under way any more.
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
	Published int64 // hints that the broker took
	Dropped   int64 // hints that found no room, or that the broker refused
	Taken     int64 // ids
	Told      int64 // events that were broadcast
	Missed    int64 // events that found no room, and gaps in what was heard
}

// Stats returns a snapshot.
func (m *Mailbox) Stats() Stats {
	return Stats{
		Published: m.published.Load(), Dropped: m.lost.Load() + m.hints.dropped.Load(), Taken: m.taken.Load(),
		Told: m.events.sent.Load(), Missed: m.missed.Load() + m.events.dropped.Load(),
	}
}
