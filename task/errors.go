package task

import (
	"errors"
	"fmt"
	"time"
)

// Code names the reason of a refusal. Codes are stable: clients branch on them, and
// both doors use the same ones.
type Code string

// The codes of the line protocol and of HTTP problem documents.
const (
	InvalidJSON     Code = "invalid_json"      // the line is not one strict JSON text
	InvalidRequest  Code = "invalid_request"   // JSON, but a value is missing, mistyped or out of range
	UnknownOp       Code = "unknown_op"        // Posta does not know the op
	UnknownField    Code = "unknown_field"     // a key that the op does not have
	LineTooLong     Code = "line_too_long"     // more bytes than a line may have
	LineTimeout     Code = "line_timeout"      // the line was not completed in time
	PayloadTooLarge Code = "payload_too_large" // the payload is larger than may be kept
	Unauthenticated Code = "unauthenticated"   // there is no token, or it is unknown
	Forbidden       Code = "forbidden"         // the client is known, but may not do this
	NotFound        Code = "not_found"         // no such task, queue or route
	Conflict        Code = "conflict"          // the task's state does not allow this
	KeyConflict     Code = "key_conflict"      // the idempotency key belongs to another request
	Stale           Code = "stale"             // the attempt of a lease is over
	Quiet           Code = "quiet"             // an operator asked this worker to stop
	Overloaded      Code = "overloaded"        // a limit is reached
	Draining        Code = "draining"          // the node is about to stop
	Unavailable     Code = "unavailable"       // a part that the op needs does not answer, or is not configured
	UnknownOutcome  Code = "unknown_outcome"   // the change may or may not have been made
	Internal        Code = "internal"          // a bug or an unexpected error
	SlowConsumer    Code = "slow_consumer"     // replies were not read in time; in logs and metrics only
)

// Codes lists every code, in the order of the protocol's description.
func Codes() []Code {
	return []Code{
		InvalidJSON, InvalidRequest, UnknownOp, UnknownField, LineTooLong, LineTimeout,
		PayloadTooLarge, Unauthenticated, Forbidden, NotFound, Conflict, KeyConflict,
		Stale, Quiet, Overloaded, Draining, Unavailable, UnknownOutcome, Internal, SlowConsumer,
	}
}

// Error is a refusal: the request was not carried out. Both doors send it to clients, so its fields contain only
// what a client may see.
type Error struct {
	Code       Code
	Message    string        // for people: what is wrong, and the limit or the allowed values
	Detail     string        // details, if the protocol fixes Message
	Field      string        // the field that is wrong
	Limit      string        // the limit that was reached, with its unit
	Task       string        // the task concerned
	State      string        // the state of the task, if it does not allow the change
	RetryAfter time.Duration // after which time to try again; 0: unknown
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e.Detail != "" {
		return fmt.Sprintf("%s: %s (%s)", e.Code, e.Message, e.Detail)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Refuse returns an Error with a formatted message.
func Refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// RefuseField returns an Error that names the field that is wrong.
func RefuseField(code Code, field, format string, args ...any) *Error {
	e := Refuse(code, format, args...)
	e.Field = field
	return e
}

// CodeOf returns the code of err, or Internal if it has none.
func CodeOf(err error) Code {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return Internal
}
