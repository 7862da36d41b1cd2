package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/task"
)

// defaultsFlag is a flag with the options that an enqueue gets if it does not set them: NAME=KEY:VALUE,KEY:VALUE,
// separated by semicolons. * is every queue without a value of its own. The keys are those of the wire.
type defaultsFlag struct {
	Queues map[string]task.Defaults
	text   string
}

// String returns the flag as it was written.
func (d *defaultsFlag) String() string { return d.text }

// Type returns the kind of value for the help.
func (d *defaultsFlag) Type() string { return "defaults" }

// Set parses the value.
func (d *defaultsFlag) Set(text string) error {
	queues := map[string]task.Defaults{}
	for entry := range strings.SplitSeq(text, ";") {
		name, values, given := strings.Cut(strings.TrimSpace(entry), "=")
		if name != "*" {
			if refusal := task.CheckQueue(name); refusal != nil {
				return fmt.Errorf("%q is not the name of a queue: %s; * stands for all others", name, refusal.Message)
			}
		}
		if _, twice := queues[name]; twice {
			return fmt.Errorf("queue %s stands there twice", name)
		}
		var defaults task.Defaults
		if given {
			if err := readDefaults(&defaults, values); err != nil {
				return fmt.Errorf("queue %s: %w", name, err)
			}
		}
		queues[name] = defaults
	}
	d.Queues, d.text = queues, text
	return nil
}

// readDefaults parses the values of a queue.
func readDefaults(to *task.Defaults, text string) error {
	spans := map[string]struct {
		to   *time.Duration
		most time.Duration
	}{
		"timeout": {&to.Timeout, task.MaxEnqueueTimeout}, "backoff": {&to.Backoff, task.MaxBackoff}, "backoff_max": {&to.BackoffMax, task.MaxBackoff},
		"keep": {&to.Keep, task.MaxSpan}, "keep_failed": {&to.KeepFailed, task.MaxSpan},
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), ":")
		if seen[key] {
			return fmt.Errorf("%s stands there twice", key)
		}
		seen[key] = true
		span, isSpan := spans[key]
		switch {
		case key == "max_attempts":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > task.MaxAttempts {
				return fmt.Errorf("max_attempts is %q, and must be a whole number from 1 to %d", value, task.MaxAttempts)
			}
			to.MaxAttempts = n
		case !isSpan:
			return fmt.Errorf("%q is not a default: write max_attempts, timeout, backoff, backoff_max, keep or keep_failed with a value, such as backoff:30 or keep_failed:30d", pair)
		default:
			d, err := parseSpan(value)
			if err != nil || d < 0 || d > span.most || d == 0 && key == "timeout" {
				return fmt.Errorf("%s is %q, and must be a time of at most %s, such as 30, 5m or 2h", key, value, terminal.Span(span.most))
			}
			if *span.to = d; d == 0 {
				*span.to = task.Zero
			}
		}
	}
	if to.Backoff > 0 && to.BackoffMax > 0 && to.Backoff > to.BackoffMax {
		return errors.New("backoff is longer than backoff_max")
	}
	return nil
}

// parseSpan parses a duration: seconds, or a number with its unit; d is a day.
func parseSpan(text string) (time.Duration, error) {
	number, unit := text, time.Second
	if days, found := strings.CutSuffix(text, "d"); found {
		number, unit = days, 24*time.Hour
	}
	if n, err := strconv.ParseFloat(number, 64); err == nil {
		return time.Duration(n * float64(unit)), nil
	}
	return time.ParseDuration(text)
}
