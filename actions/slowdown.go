package actions

import (
	"errors"
	"time"
)

// MaxSlowDown is the longest time for which SlowDown holds an action back.
const MaxSlowDown = time.Hour

// slowDownError is an error that holds for every task of the action.
type slowDownError struct {
	error
	wait time.Duration
}

// Unwrap returns the marked error.
func (e slowDownError) Unwrap() error { return e.error }

// SlowDown is RetryAfter for an action whose other end is overloaded: it also keeps this
// node from entering other tasks of the action for that long, at most MaxSlowDown. Durable
// tasks wait in their queue meanwhile, and direct ones are answered with a failure. The text
// stays the same; nil stays nil.
func SlowDown(err error, wait time.Duration) error {
	if err == nil {
		return nil
	}
	wait = min(max(wait, 0), MaxSlowDown)
	return slowDownError{RetryAfter(err, wait), wait}
}

// SlowDownTime returns the time with which err, or an error that it wraps, was marked by
// SlowDown; 0 if it was not.
func SlowDownTime(err error) time.Duration {
	var mark slowDownError
	errors.As(err, &mark)
	return mark.wait
}
