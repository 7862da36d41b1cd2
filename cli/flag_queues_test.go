package cli

import (
	"maps"
	"strings"
	"testing"
)

func TestQueuesAreNamesWithBounds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]queueRule{
		"*":                                {"*": {}},
		"mail":                             {"mail": {}},
		"mail=running:5,backlog:1e5;*":     {"mail": {Running: 5, Backlog: 100_000}, "*": {}},
		" a.b_c-1=backlog:7 ; *=running:2": {"a.b_c-1": {Backlog: 7}, "*": {Running: 2}},
		"*=backlog:10000000, running:1":    {"*": {Running: 1, Backlog: 10_000_000}},
	} {
		var q queuesFlag
		if err := q.Set(text); err != nil || !maps.Equal(q.Rules, want) || q.String() != text {
			t.Errorf("%q is %v (%v), want %v", text, q.Rules, err, want)
		}
	}
}

func TestWhatIsNoRuleForQueuesIsRefusedWithWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                           "is not the name of a queue",
		"Mail":                       "1 to 64 of a-z",
		"..=running:1":               `is not "." or ".."`,
		"mail;":                      "is not the name of a queue",
		strings.Repeat("x", 65):      "is not the name of a queue",
		"mail;mail=running:1":        "queue mail stands there twice",
		"mail=":                      "write running:N",
		"mail=speed:3":               "write running:N",
		"mail=running":               "whole number from 1 to",
		"mail=running:0":             "whole number from 1 to",
		"mail=running:1.5":           "whole number from 1 to",
		"mail=running:NaN":           "whole number from 1 to",
		"mail=backlog:2e7":           "from 1 to 10000000",
		"mail=running:1,running:2":   "running stands there twice",
		"mail=backlog:1;*=backlog:-": `queue *: backlog is "-"`,
	} {
		q := anyQueue()
		if err := q.Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is refused with %v, want %q", text, err, want)
		}
		if q.String() != "*" || len(q.Rules) != 1 {
			t.Errorf("%q left %v", text, q)
		}
	}
}
