package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// maxResends is how many times a request with an unknown outcome is sent again. It is
	// small, so that a task which kills its node does not kill all nodes.
	maxResends = 3
	// maxRereads is how many times in a row a read-only request is sent again after its
	// connection ended. It is enough for a rolling restart, and ends the attempts with a
	// server whose replies cannot be read.
	maxRereads = 10
	// keptLine is the largest line buffer, in bytes, that a call keeps for its next request.
	keptLine = 64 << 10
)

// fate is how a call was completed.
type fate uint8

// The fates of a call.
const (
	answered fate = iota // the server replied: with result, or with a *task.Error in err
	unsent               // never written to a socket, for the reason in err: the server has not read it
	lost                 // written, and the connection ended without a reply, for the reason in err
	failed               // abandoned by the client, for the reason in err
)

// shape is the form of the reply to a call. A long-lived call does not count as unanswered on
// its connection.
type shape uint8

// The shapes of replies.
const (
	shapeObject shape = iota // one line with status done; result is its result object
	shapeLine                // one line with any status; result is the whole line
	shapeWait                // like shapeLine, and long-lived
	shapeWatch               // several lines up to a final one, and long-lived; result is the last line
	shapeAccept              // like shapeWatch, but long-lived only after its first line
)

// long reports whether a call of this shape is long-lived from the beginning.
func (s shape) long() bool { return s == shapeWait || s == shapeWatch }

// busyAt returns the number of calls of this kind on a connection at which another
// connection is worth opening.
func (s shape) busyAt() int32 {
	if s.long() {
		return busyLong
	}
	return 1
}

// ends reports whether a line with this status is the last one.
func (s shape) ends(status string) bool {
	if s < shapeWatch {
		return true
	}
	switch status {
	case wire.StatusDone, wire.StatusFailed, wire.StatusCancelled, wire.StatusError:
		return true
	}
	return false
}

// owner is notified when its call is completed.
type owner interface {
	// completed is called once for each submit. It must not block: the goroutine that reads
	// the connection calls it.
	completed()
}

// call is one request. It belongs to its owner before submit and after completed, and to
// the connPool in between.
type call struct {
	owner owner
	line  []byte       // the whole line, from lineStart to the line feed
	gone  *atomic.Bool // once set, dropGone may take the call out of the backlog; nil: never
	shape shape
	// received is called with each line but the last of a shape with several lines, and owns
	// it. It must not block. It may still be called once after the call was abandoned.
	received func(line []byte)

	fate   fate
	result []byte // raw JSON, see shape; the owner keeps it
	err    error

	// What the owner needs to send the call again and to describe its outcome.
	policy
	about  string      // what the request is about
	tries  int         // how many times it was completed
	losses int         // how many times it was completed with an unknown outcome
	fault  *task.Error // the error of the first invalid string of the line

	// The place in the backlog, guarded by connPool.mu.
	waiting        bool
	previous, next *call
	since          time.Time
	conn           *conn // the last connection that took it

	id uint64 // on its connection, guarded by conn.mu
}

// policy says whether a call may be sent again after it was written and its connection
// ended.
type policy struct {
	repeat bool // up to maxResends times, although it may have been carried out
	reads  bool // up to maxRereads times in a row, since it changes nothing
	// passedOn says that the caller tries again by itself, and that the server cancels the run when the caller gives up.
	passedOn bool
}

// complete sets the outcome and returns the call to its owner.
func (k *call) complete(fate fate, err error) {
	k.fate, k.err = fate, err
	k.owner.completed()
}

// reset prepares a call for another request.
func (k *call) reset() {
	if cap(k.line) > keptLine {
		k.line = nil
	}
	k.line, k.result, k.err, k.shape, k.received = k.line[:0], nil, nil, shapeObject, nil
	k.policy, k.about, k.tries, k.losses = policy{}, "", 0, 0
}

// retry reports whether a completed call may be sent again, and after which pause.
func (k *call) retry() (pause time.Duration, ok bool) {
	k.tries++
	switch k.fate {
	case unsent:
		return 0, true
	case lost:
		k.losses++
		if k.reads {
			return backoff(k.losses), k.losses <= maxRereads
		}
		return 0, k.repeat && k.losses <= maxResends
	case answered:
		if k.passedOn {
			return 0, false
		}
		var refusal *task.Error
		if !errors.As(k.err, &refusal) {
			return 0, false
		}
		switch refusal.Code {
		case task.Draining:
			return max(withJitter(refusal.RetryAfter), backoff(k.tries)), true
		case task.Overloaded:
			return withJitter(refusal.RetryAfter), refusal.RetryAfter > 0
		}
	}
	return 0, false
}

// outcome returns the raw JSON of the reply, see shape, or the error for the caller.
func (k *call) outcome() ([]byte, error) {
	switch {
	case k.fate == lost && k.reads:
		return nil, fmt.Errorf("the connection ended before the reply: %w", k.err)
	case k.fate == lost:
		return nil, unknownOutcome("the connection ended after the request was written", k.err)
	}
	return k.result, k.err
}

// abandoned returns the error of a call whose caller gave up before the reply. sent means
// that a connection had accepted the call.
func (k *call) abandoned(reason error, sent bool) error {
	switch {
	case sent && k.reads:
		return fmt.Errorf("no reply in time: %w", reason)
	case sent:
		return unknownOutcome("the caller gave up after the request was handed to a connection", reason)
	}
	return fmt.Errorf("no connection had room in time: %w", reason)
}

// notResent returns the error of a call that may be sent again, for which there is no time.
func (k *call) notResent(reason error) error {
	if _, last := k.outcome(); last != nil {
		return fmt.Errorf("%w (no time to try again: %w)", last, reason)
	}
	return notSent(reason)
}

// unknownOutcome returns the error of a request that may or may not have been carried out.
func unknownOutcome(what string, cause error) error {
	return fmt.Errorf("%w: %w", task.Refuse(task.UnknownOutcome, "%s: it may or may not have been carried out", what), cause)
}

func notSent(reason error) error { return fmt.Errorf("not sent: %w", reason) }

// checkContext returns an error if ctx has ended.
func checkContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return notSent(err)
	}
	return nil
}
