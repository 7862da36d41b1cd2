package main

import (
	"errors"
	"strconv"
	"time"
)

// seconds is the value of a flag that is a span of time: a bare number is of seconds, as
// everywhere in the protocol; 200ms and 1m30s are understood, too.
type seconds time.Duration

// Set reads what the user wrote.
func (s *seconds) Set(text string) error {
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		*s = seconds(number * float64(time.Second))
		return nil
	}
	span, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want seconds, such as 2 or 0.5, or a number with its unit, such as 200ms or 1m30s")
	}
	*s = seconds(span)
	return nil
}

// String gives the span as it stands in the help.
func (s *seconds) String() string { return time.Duration(*s).String() }

// Type names the kind of value in the help.
func (s *seconds) Type() string { return "duration" }
