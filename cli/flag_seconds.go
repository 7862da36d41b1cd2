package cli

import (
	"errors"
	"time"
)

// secondsFlag is the value of a flag that is a span of time: a bare number is of seconds, as
// everywhere in the protocol; 200ms and 1m30s are understood, too.
type secondsFlag time.Duration

// Set reads what the user wrote.
func (s *secondsFlag) Set(text string) error {
	span, err := parseSpan(text)
	if err != nil {
		return errors.New("want seconds, such as 2 or 0.5, or a number with its unit, such as 200ms, 1m30s or 7d")
	}
	*s = secondsFlag(span)
	return nil
}

// String returns the span as it stands in the help.
func (s *secondsFlag) String() string { return time.Duration(*s).String() }

// Type names the kind of value in the help.
func (s *secondsFlag) Type() string { return "duration" }
