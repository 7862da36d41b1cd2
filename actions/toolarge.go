package actions

import "fmt"

// TooLargeError is the failure of an action whose result is larger than allowed. Another
// attempt would not help.
type TooLargeError struct {
	Bytes int // 0: more than Most; nobody has counted
	Most  int
}

// Error names the sizes.
func (e *TooLargeError) Error() string {
	if e.Bytes == 0 {
		return fmt.Sprintf("the result has more than the %d bytes that are allowed", e.Most)
	}
	return fmt.Sprintf("the result has %d bytes, at most %d are allowed", e.Bytes, e.Most)
}
