// Package broker is the contract of what nodes tell each other, and Memory, its simplest
// implementation. A broker carries ids of queued tasks to nodes that can run them, and
// events to all nodes. It never has the truth: that is the store's.
//
// An id is a hint that a task may be claimed. It may be lost, come twice, late, out of
// order, or for a task that has long been cancelled; the claim finds out. So a broker may
// drop ids when it has no room, and may lose everything in a crash: that costs time, and
// no task. It also means that nobody may rely on ids alone. Whoever takes them claims from
// the store as well: when Taken.Behind says so, when nothing has come for a second, and
// now and then under steady load, since a lost id among many others is missed by nobody.
//
// Ids wait in lanes, one for each queue and priority: first in, first out in a lane, as
// far as the taker has the actions. Which lane is next is decided where the ids are taken,
// not where they wait, since only some brokers know priorities. Of thirteen ids eight are
// of high priority, four of normal and one of low, and no turn is wasted; within a priority the
// queues take turns. Drivers of brokers on other machines keep a bounded list of what has
// arrived and choose from that; Memory can be that list.
//
// Errors are *task.Errors: unavailable (the broker is closed, or Publish did not reach it), or
// internal (the caller asked for what the contract does not have). Take and Next give the
// context's error when that ends first.
package broker

import (
	"context"

	"github.com/posta-tasks/posta/task"
)

// Broker is all of it. Its methods are safe for concurrent use. One that is away is no
// error of Consume, Listen, Take and Next: nothing comes until it is back, and then they say that
// something may have been missed.
type Broker interface {
	IDs
	Events
	// Stats gives what has gone through this node's end of the broker.
	Stats() Stats
	// Close ends all takers and listeners, and waits for nobody: calls under way and calls
	// that come later are refused with unavailable. Closing twice is no error.
	Close() error
}

// IDs carries ids of queued tasks to the nodes that can run them.
type IDs interface {
	// Publish hands ids over. When it has answered nil, the broker has each of them or has
	// dropped it for want of room, which is counted and shown by Taken.Behind. After
	// unavailable some may be there: publish again, or leave them to the poll. It waits
	// no longer than ctx, and never for takers.
	Publish(ctx context.Context, hints []Hint) error
	// Consume begins to take what fits. The caller closes the taker.
	Consume(what Interest) (Taker, error)
}

// Taker is one node's end of the ids. Close may be called by anybody at any time; the
// rest belongs to one goroutine.
type Taker interface {
	// Take waits until there is an id, and gives what is there, at most want.Limit ids; or until
	// there is reason to ask the store, and gives Behind. The first Take gives Behind, since
	// ids may have been published before anybody listened.
	Take(ctx context.Context, want Want) (Taken, error)
	// Ack says that the ids taken so far are claimed, or safe with the caller. Those that
	// were not acknowledged when the taker is closed, or its process dies, may be given to
	// others.
	Ack()
	// Close ends the taking; a Take under way is refused with unavailable.
	Close() error
}

// Hint says that a task may be claimed.
type Hint struct {
	ID       string
	Queue    string
	Priority task.Priority
	Action   string
}

// Interest says what a node can run, as long as it lives.
type Interest struct {
	Queues  []string // nil: every queue
	Actions []string // that the node has
}

// Want says what a node can run just now. It holds for one Take: who can run more, or
// something else, ends that one and takes again.
type Want struct {
	Limit int // ids at most, 1 or more
	// Queues says how many ids may be taken of each queue; "*" stands for each that is not
	// named; nil means that only Limit counts. It is how a queue that is paused, or has as
	// much running as it may, keeps its ids.
	Queues map[string]int
}

// room gives how many ids of the queue are wanted.
func (w Want) room(queue string) int {
	if w.Queues == nil {
		return w.Limit
	}
	if n, named := w.Queues[queue]; named {
		return n
	}
	return w.Queues["*"]
}

// Taken is the answer to a Take.
type Taken struct {
	IDs []string
	// Behind says that the store may have queued tasks whose ids will not come: they found
	// no room, or the connection was cut. A lane that had no room takes no ids until it is
	// empty, so that newer tasks do not overtake those that were dropped; then it says so.
	Behind bool
}

// Events carries events to all nodes.
type Events interface {
	// Broadcast sends events to every listener, those of this node included, and waits for
	// none. What cannot be sent, or finds no room with a listener, is counted and lost.
	// Events of one node stay in their order.
	Broadcast(events []Event)
	// Listen begins to collect events; those that were sent before do not come. The caller
	// closes the listener.
	Listen() (Listener, error)
}

// Listener is one subscriber's end of the events. It collects a bounded number of them;
// whoever reads it slowly loses events, and keeps nobody waiting. Close may be called by
// anybody at any time; the rest belongs to one goroutine.
type Listener interface {
	// Next waits until something has come, and gives all of it.
	Next(ctx context.Context) (Heard, error)
	// Close ends the listening; a Next under way is refused with unavailable.
	Close() error
}

// Heard is the answer to a Next.
type Heard struct {
	Events []Event
	// Missed is how many events were lost since the last Next, after those in Events; at least 1 when
	// nobody knows how many. What matters must then be read from the store.
	Missed int64
}

// Kind says what an event is about.
type Kind string

// The kinds of events.
const (
	Changed    Kind = "changed"    // a task is in another state
	Progressed Kind = "progressed" // an action reported progress
	Cancelling Kind = "cancelling" // a running task shall stop
	Paused     Kind = "paused"     // a queue was paused
	Resumed    Kind = "resumed"    // a queue goes on
)

// Event is something that nodes may want to know at once. It is small: payloads and
// results are read from the store.
type Event struct {
	Kind     Kind
	Task     string        // none of Paused and Resumed
	Queue    string        // the task's, or the one that was paused or resumed
	Attempt  int           // of Progressed and Cancelling
	Entry    task.Entry    // of Changed: what was added to the history
	Progress task.Progress // of Progressed
}

// Stats counts since the broker was opened.
type Stats struct {
	Held      int   // ids that wait on this machine now
	Published int64 // ids handed over, dropped ones included
	Dropped   int64 // ids that found no room
	Taken     int64 // ids given to takers
	Sent      int64 // events broadcast
	Missed    int64 // events that a listener lost, for each listener
	Away      bool  // the server cannot be worked with now
	Outages   int64 // how often that has begun
}
