package link

import (
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/wire"
)

// Begin is how the line of every call begins: with the id 0, in whose place the
// connection writes its own.
const Begin = `{"id":0`

// LongestID is what an id may add to a line, in bytes.
const LongestID = 20

// Fate says how a call came back.
type Fate uint8

// The fates of a call.
const (
	Answered Fate = iota // the server replied: with Result, or with a *task.Error in Err
	Unsent               // never written to a socket, for the reason in Err: nobody read it
	Lost                 // written, and the connection ended without a reply, for the reason in Err
	Failed               // given up, for the reason in Err
)

// Shape says which lines answer a call. A call that may take long does not count among
// the unanswered ones of its connection.
type Shape uint8

// The shapes of replies.
const (
	Object Shape = iota // one line of status done: Result is its result object
	Line                // one line of any status: Result is the whole line
	Wait                // like Line, and may take long
	Watch               // lines until a final one, and may take long: Result is the last one
	Accept              // like Watch, and takes long only after its first line
)

// long tells whether the call may take long from the beginning.
func (s Shape) long() bool { return s == Wait || s == Watch }

// many is how many calls of the shape speak for another connection.
func (s Shape) many() int32 {
	if s.long() {
		return manyLong
	}
	return 1
}

// ends tells whether a line of this status is the last one.
func (s Shape) ends(status string) bool {
	if s < Watch {
		return true
	}
	switch status {
	case wire.StatusDone, wire.StatusFailed, wire.StatusCancelled, wire.StatusError:
		return true
	}
	return false
}

// Owner is whom a call belongs to.
type Owner interface {
	// Settled is called once, when the call has come back. It must not block: it is
	// called from the goroutine that reads the connection.
	Settled()
}

// Call is one request on its way. It belongs to its owner before Submit and after
// Settled; in between to the Set.
type Call struct {
	Owner Owner
	Line  []byte       // the whole line, beginning with Begin and ending in a line feed
	Gone  *atomic.Bool // when set, the call may be taken out of the backlog; nil: never
	Shape Shape
	// Heard takes each line but the last, of the shapes that have several; the line
	// is its own to keep. It must not block, and may still be called once when the
	// call has been abandoned.
	Heard func(line []byte)

	Fate   Fate
	Result []byte // raw JSON, as Shape says, the owner's to keep
	Err    error

	// While the call is in the backlog, guarded by Set.mu.
	waiting        bool
	previous, next *Call
	since          time.Time
	conn           *conn // the last connection that took it

	id uint64 // on its connection, guarded by conn.mu
}

// settle gives the call back to its owner.
func (k *Call) settle(fate Fate, err error) {
	k.Fate, k.Err = fate, err
	k.Owner.Settled()
}
