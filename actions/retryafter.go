package actions

import (
	"errors"
	"time"
)

// retryAfterError is an error with the time after which another attempt may help.
type retryAfterError struct {
	error
	delay time.Duration
}

// Unwrap returns the marked error.
func (e retryAfterError) Unwrap() error { return e.error }

// RetryAfter marks an error with the time after which another attempt may help, such as
// the Retry-After of a server that is busy. If the durable task has attempts left, the
// next one starts after that time instead of the task's backoff. The attempt counts as
// failed. A negative time is 0; the engine waits at most task.MaxBackoff. The text stays
// the same; nil stays nil.
func RetryAfter(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return retryAfterError{err, max(0, delay)}
}

// RetryDelay returns the time with which err, or an error that it wraps, was marked by
// RetryAfter; ok is false if there is none.
func RetryDelay(err error) (delay time.Duration, ok bool) {
	var mark retryAfterError
	ok = errors.As(err, &mark)
	return mark.delay, ok
}
