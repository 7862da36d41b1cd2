package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// maxRunning is the largest "running" of a rule. No node has more slots.
const maxRunning = 100_000

// queueRule is the rule of a queue; 0 means no limit of its own.
type queueRule struct {
	Running int // attempts at once on the node
	Backlog int // unfinished tasks of the queue
}

// queuesFlag is a flag with the queues that a node works: NAME=running:N,backlog:N, separated by semicolons. * is
// every queue that is not named.
type queuesFlag struct {
	Rules map[string]queueRule
	text  string
}

// anyQueue returns the default: every queue without limits of its own.
func anyQueue() queuesFlag { return queuesFlag{Rules: map[string]queueRule{"*": {}}, text: "*"} }

// String returns the flag as it was written.
func (q *queuesFlag) String() string { return q.text }

// Type returns the kind of value for the help.
func (q *queuesFlag) Type() string { return "rules" }

// Set parses the value.
func (q *queuesFlag) Set(text string) error {
	rules := map[string]queueRule{}
	for entry := range strings.SplitSeq(text, ";") {
		name, bounds, given := strings.Cut(strings.TrimSpace(entry), "=")
		if name != "*" && task.CheckQueue(name) != nil {
			return fmt.Errorf("%q is not the name of a queue: a name has 1 to %d of a-z, 0-9, '.', '_' and '-', but is not \".\" or \"..\"; * stands for all others", name, task.MaxQueue)
		}
		if _, twice := rules[name]; twice {
			return fmt.Errorf("queue %s stands there twice", name)
		}
		rule := queueRule{}
		if given {
			if err := rule.read(bounds); err != nil {
				return fmt.Errorf("queue %s: %w", name, err)
			}
		}
		rules[name] = rule
	}
	q.Rules, q.text = rules, text
	return nil
}

// read parses the limits of a queue.
func (r *queueRule) read(text string) error {
	for bound := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(bound), ":")
		place, most := &r.Running, maxRunning
		switch key {
		case "running":
		case "backlog":
			place, most = &r.Backlog, task.MaxBacklog
		default:
			return fmt.Errorf("%q is not a limit: write running:N for attempts at once, or backlog:N for unfinished tasks", bound)
		}
		if *place != 0 {
			return fmt.Errorf("%s stands there twice", key)
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n != math.Trunc(n) || n < 1 || n > float64(most) {
			return fmt.Errorf("%s is %q, and must be a whole number from 1 to %d, such as 5 or 1e5", key, value, most)
		}
		*place = int(n)
	}
	return nil
}
