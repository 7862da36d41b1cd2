package cli

import (
	"errors"
	"time"

	"github.com/posta-tasks/posta/task"
)

// momentFlag is a flag for a time in RFC 3339.
type momentFlag time.Time

// String returns the time as it is written on the wire, or "" if there is none.
func (m *momentFlag) String() string {
	if time.Time(*m).IsZero() {
		return ""
	}
	return time.Time(*m).Format(time.RFC3339Nano)
}

// Type returns the kind of value for the help.
func (m *momentFlag) Type() string { return "time" }

// Set parses the value.
func (m *momentFlag) Set(text string) error {
	at, err := task.ParseTime(text)
	if err != nil {
		return errors.New("want a time as RFC 3339 has it, such as 2026-01-31T08:00:00Z or 2026-01-31T08:00:00-03:00")
	}
	*m = momentFlag(at)
	return nil
}
