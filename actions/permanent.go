package actions

import "errors"

// permanentError is an error that another attempt would not mend.
type permanentError struct{ error }

// Unwrap gives the error inside.
func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error as one that another attempt would not mend, such as a mistyped
// payload: a durable task that ends with it is failed at once, whatever attempts it has
// left. Its text stays the same; nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent tells whether err, or an error in it, was marked with Permanent.
func IsPermanent(err error) bool {
	var mark permanentError
	return errors.As(err, &mark)
}
