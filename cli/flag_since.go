package cli

import (
	"errors"
	"time"
)

// sinceFlag is a flag for a time in the past: RFC 3339, or how long ago it was.
type sinceFlag struct {
	text string
	at   time.Time
	ago  time.Duration
}

// At returns the time, or the zero time if the flag is not set.
func (s *sinceFlag) At(now time.Time) time.Time {
	if s.ago > 0 {
		return now.Add(-s.ago)
	}
	return s.at
}

// String returns the value as the user wrote it.
func (s *sinceFlag) String() string { return s.text }

// Type returns the kind of value for the help.
func (s *sinceFlag) Type() string { return "time" }

// Set parses the value.
func (s *sinceFlag) Set(text string) error {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		*s = sinceFlag{text: text, at: at}
		return nil
	}
	ago, err := time.ParseDuration(text)
	if err != nil || ago <= 0 {
		return errors.New("want a time, such as 2026-01-31T08:00:00Z, or how long ago, such as 90m or 24h")
	}
	*s = sinceFlag{text: text, ago: ago}
	return nil
}
