package task

import (
	"errors"
	"time"
)

// The errors of ParseTime. They complete "must be …".
var (
	errTime = errors.New("a time as RFC 3339 has it, such as 2026-01-31T08:00:00Z")
	errYear = errors.New("a time in the years 0001 to 9999 in UTC")
)

// ParseTime parses a time in RFC 3339 and returns it in UTC. T and Z may be lower case, as the RFC allows. A leap
// second (second 60 at the end of a month in UTC) is the second after it. The year in UTC must be 0001 to 9999. The
// error completes "must be …".
func ParseTime(text string) (time.Time, error) {
	const form = "2006-01-02T15:04:05"
	b := []byte(text)
	if len(b) <= len(form) || b[13] != ':' || b[16] != ':' { // package time accepts an hour of one digit
		return time.Time{}, errTime
	}
	if b[10] == 't' {
		b[10] = 'T'
	}
	if last := &b[len(b)-1]; *last == 'z' {
		*last = 'Z'
	}
	leap := string(b[17:19]) == "60"
	if leap {
		copy(b[17:19], "59")
	}
	if !fits(b[len(form):]) {
		return time.Time{}, errTime
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return time.Time{}, errTime
	}
	t = t.UTC()
	if leap {
		if t = t.Truncate(time.Second).Add(time.Second); t.Day() != 1 || t.Hour() != 0 || t.Minute() != 0 {
			return time.Time{}, errTime
		}
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, errYear
	}
	return t, nil
}

// fits reports whether rest is a fraction and an offset of RFC 3339. Package time also accepts a comma, and offsets
// of a day and longer.
func fits(rest []byte) bool {
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		if n == 1 {
			return false
		}
		rest = rest[n:]
	}
	if string(rest) == "Z" {
		return true
	}
	if len(rest) != len("+00:00") || rest[0] != '+' && rest[0] != '-' || rest[3] != ':' {
		return false
	}
	for _, i := range []int{1, 2, 4, 5} {
		if !isDigit(rest[i]) {
			return false
		}
	}
	return string(rest[1:3]) < "24" && string(rest[4:6]) < "60"
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
