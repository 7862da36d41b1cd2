package actions

import "errors"

// permanentError is an error that another attempt would not fix.
type permanentError struct{ error }

// Unwrap returns the marked error.
func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that another attempt would not fix, such as a mistyped payload.
// A durable task that ends with it fails at once, even if it has attempts left. The text
// stays the same; nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent reports whether err, or an error that it wraps, was marked with Permanent.
func IsPermanent(err error) bool {
	var mark permanentError
	return errors.As(err, &mark)
}
