package option

import (
	"errors"
	"strconv"
	"time"
)

// Seconds is the value of a flag that is a span of time: a bare number is of seconds, as
// everywhere in the protocol; 200ms and 1m30s are understood, too.
type Seconds time.Duration

// Set reads what the user wrote.
func (s *Seconds) Set(text string) error {
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		*s = Seconds(number * float64(time.Second))
		return nil
	}
	span, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want seconds, such as 2 or 0.5, or a number with its unit, such as 200ms or 1m30s")
	}
	*s = Seconds(span)
	return nil
}

// String gives the span as it stands in the help.
func (s *Seconds) String() string { return time.Duration(*s).String() }

// Type names the kind of value in the help.
func (s *Seconds) Type() string { return "duration" }
