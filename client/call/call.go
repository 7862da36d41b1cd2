package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/client/link"
	"github.com/posta-tasks/posta/task"
)

const (
	// maxResends is how often a request whose outcome is unknown is sent again: a
	// task that kills the node it runs on must not visit all of them for ever.
	maxResends = 3
	// maxRereads is how often in a row a request that only reads is sent again when its
	// connection ended. It outlasts a rolling restart, not a server that no reply of
	// can be understood.
	maxRereads = 10
	// keptLine is the room for a line that a call keeps for the next request.
	keptLine = 64 << 10
)

// Call is one request, with what is needed to send it again and to tell its outcome.
type Call struct {
	link.Call
	Policy
	About  string      // what the request is about, for its owner
	tries  int         // how often it came back
	losses int         // how often its outcome was unknown
	fault  *task.Error // the first string of the line that a server would not take as it is
}

// Policy says whether a call may be sent again when its connection ended after it was
// written.
type Policy struct {
	Repeat bool // it may, a few times, although it may have been carried out
	Reads  bool // it may, more often, since it changes nothing
}

// Reset prepares a call for another request.
func (k *Call) Reset() {
	if cap(k.Line) > keptLine {
		k.Line = nil
	}
	k.Line, k.Result, k.Err, k.Shape, k.Heard = k.Line[:0], nil, nil, link.Object, nil
	k.Policy, k.About, k.tries, k.losses = Policy{}, "", 0, 0
}

// Again tells whether a call that came back may be sent once more, and after which
// pause.
func (k *Call) Again() (pause time.Duration, ok bool) {
	k.tries++
	switch k.Fate {
	case link.Unsent:
		return 0, true
	case link.Lost:
		k.losses++
		if k.Reads {
			return link.Backoff(k.losses), k.losses <= maxRereads
		}
		return 0, k.Repeat && k.losses <= maxResends
	case link.Answered:
		var refusal *task.Error
		if !errors.As(k.Err, &refusal) {
			return 0, false
		}
		switch refusal.Code {
		case task.Draining:
			return max(link.Longer(refusal.RetryAfter), link.Backoff(k.tries)), true
		case task.Overloaded:
			return link.Longer(refusal.RetryAfter), refusal.RetryAfter > 0
		}
	}
	return 0, false
}

// Outcome gives what came back: raw JSON, as the call's shape says, or the error that the
// caller gets.
func (k *Call) Outcome() ([]byte, error) {
	switch {
	case k.Fate == link.Lost && k.Reads:
		return nil, fmt.Errorf("the connection ended before the reply: %w", k.Err)
	case k.Fate == link.Lost:
		return nil, unknownOutcome("the connection ended after the request was written", k.Err)
	}
	return k.Result, k.Err
}

// GaveUp is the error of a call whose caller gave up for this reason, before its reply.
// handedOn tells whether a connection had it.
func (k *Call) GaveUp(reason error, handedOn bool) error {
	switch {
	case handedOn && k.Reads:
		return fmt.Errorf("no reply in time: %w", reason)
	case handedOn:
		return unknownOutcome("the caller gave up after the request was handed to a connection", reason)
	}
	return fmt.Errorf("no connection had room in time: %w", reason)
}

// Stopped is the error of a call that would have been sent again, had there been time.
func (k *Call) Stopped(reason error) error {
	if _, last := k.Outcome(); last != nil {
		return fmt.Errorf("%w (no time to try again: %w)", last, reason)
	}
	return notSent(reason)
}

// unknownOutcome makes the error of a request that may or may not have been carried out.
func unknownOutcome(what string, cause error) error {
	return fmt.Errorf("%w: %w", task.Refuse(task.UnknownOutcome, "%s: it may or may not have been carried out", what), cause)
}

func notSent(reason error) error { return fmt.Errorf("not sent: %w", reason) }

// given is ctx's reason when it has ended already.
func given(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return notSent(err)
	}
	return nil
}
