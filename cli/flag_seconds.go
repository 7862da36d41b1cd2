package cli

import (
	"errors"
	"time"
)

// secondsFlag is a flag for a duration. A number without a unit means seconds, as in the protocol; 200ms and 1m30s
// are allowed too.
type secondsFlag time.Duration

// Set parses the value.
func (s *secondsFlag) Set(text string) error {
	span, err := parseSpan(text)
	if err != nil {
		return errors.New("want seconds, such as 2 or 0.5, or a number with its unit, such as 200ms, 1m30s or 7d")
	}
	*s = secondsFlag(span)
	return nil
}

// String returns the duration for the help.
func (s *secondsFlag) String() string { return time.Duration(*s).String() }

// Type returns the kind of value for the help.
func (s *secondsFlag) Type() string { return "duration" }
