package link

import (
	"sync/atomic"
	"time"
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

	Fate   Fate
	Result []byte // raw JSON of the result object, the owner's to keep
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
