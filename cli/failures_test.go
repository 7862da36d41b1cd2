package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

func TestFailuresAreGroupedByTheirCause(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	failed := func(id, action, text string, minute int) client.Record {
		at := start.Add(time.Duration(minute) * time.Minute)
		return client.Record{Task: id, State: task.Failed, Action: action, Code: task.ActionFailed, Error: text, CreatedAt: at.Add(-time.Minute), FinishedAt: at}
	}
	var groups faults
	for _, page := range [][]client.Record{
		{failed("T5", "send", "no user 5", 5), failed("T4", "send", "no user 4", 9), failed("T3", "draw", "no user 3", 3)},
		{failed("T2", "send", "host away", 8), failed("T1", "send", "no user \"1\"", 1)},
	} {
		if err := groups.add(page); err != nil {
			t.Fatal(err)
		}
	}
	list := groups.sorted()
	if len(list) != 3 || list[0].Count != 3 || list[0].Sample != "T4" || list[0].Error != "no user 4" || !list[0].First.Equal(start.Add(time.Minute)) ||
		!list[0].Last.Equal(start.Add(9*time.Minute)) || list[1].Sample != "T2" || list[2].Action != "draw" {
		t.Errorf("the groups are %+v", list)
	}
	since := start.Local().Format("2006-01-02T15:04:05Z07:00")
	if got := groups.looked(true); got != "read 5 failed tasks, created since "+since+"; there are older ones, which a larger --limit reads" {
		t.Error(got)
	}
	if got := groups.looked(false); got != "read 5 failed tasks, created since "+since+"; there are no older ones" {
		t.Error(got)
	}
	var text strings.Builder
	if err := printFaults(&text, list[:1]); err != nil || !strings.Contains(text.String(), "\n3      "+list[0].Fault+"  send    action_failed  ") ||
		!strings.HasSuffix(text.String(), "  T4      no user 4\n") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}
