package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// recordFrom reads a record as it stands on the wire.
func recordFrom(t *testing.T, text string) *client.Record {
	t.Helper()
	var r client.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestATaskIsShownWithWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	r := recordFrom(t, `{"task":"01JE","status":"running","queue":"mail","action":"se\u001bnd","attempt":3,"max_attempts":12,"timeout":90.5,"generation":1,
		"priority":"high","created_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:01Z","node":"n1",
		"progress":{"percent":40,"message":"half\nway"},"cancelling":true,"key":"k","meta":{"b":"2","a":"1"},"warning":"careful"}`)
	text := taskText(r, false)
	for _, want := range []string{
		"01JE  running\n", `  action    se\u001bnd` + "\n", "  queue     mail, priority high\n", "  attempt   3 on n1\n  limits    12 attempts, 1m30.5s each\n",
		"  retried   once by hand\n", "  key       k\n", "  meta      a=1\n  meta      b=2\n",
		`  progress  40% half\u000away` + "\n", "  asked     to stop\n", "  warning   careful\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "finished") || strings.Contains(text, "result") {
		t.Errorf("a running task has an end:\n%s", text)
	}
	ended := recordFrom(t, `{"task":"01JE","status":"failed","started_at":"2026-01-01T00:00:01Z","finished_at":"2026-01-01T00:00:02.5Z","error":"boom","code":"action_failed"}`)
	if text := taskText(ended, true); !strings.Contains(text, "\x1b[31mfailed\x1b[0m") || !strings.Contains(text, ", after 1.5s\n") ||
		!strings.Contains(text, "error     action_failed: boom\n") {
		t.Errorf("a failed task is\n%s", text)
	}
}

func TestAnEventIsALine(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 5e8, time.Local)
	at := now.Format("15:04:05.000Z07:00")
	for want, e := range map[string]client.Event{
		at + "  queued":                                   {State: task.Queued},
		at + "  running    attempt 1 on n1":               {State: task.Running, Attempt: 1, Node: "n1", At: now},
		at + "  running    attempt 1 on n1 by worker w7":  {State: task.Running, Attempt: 1, Node: "n1", Worker: "w7", At: now},
		at + "  running    attempt 1  40% half":           {State: task.Running, Attempt: 1, Progress: &client.Progress{Percent: 40, Message: "half"}},
		at + "  scheduled  attempt 2 on n1  boom":         {State: task.Scheduled, Attempt: 2, Node: "n1", Error: "boom"},
		at + "  failed     attempt 2  timed_out":          {State: task.Failed, Attempt: 2, Code: task.TimedOut},
		at + "  failed     attempt 2  crashed: it killed": {State: task.Failed, Attempt: 2, Code: task.Crashed, Error: "it killed"},
	} {
		if got := eventText(&e, now, false); got != want {
			t.Errorf("\n got %q\nwant %q", got, want)
		}
	}
}

func TestTablesStandInColumns(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := printQueues(&text, []client.Queue{
		{Queue: "default", Queued: 1234567, OldestSeconds: 61.25, RateIn: 0.04, RateOut: 12.3},
		{Queue: "mail", Paused: true, Failed: 2, Unserved: true},
	}); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"QUEUE    SCHEDULED  QUEUED     RUNNING  FAILED   OLDEST   IN/S     OUT/S\n" +
		"default  0          1,234,567  0        0        1m1.2s   0.0      12.3\n" +
		"mail     0          0          0        2        -        0.0      0.0      paused, "
	if got := text.String(); !strings.HasPrefix(got, want) {
		t.Errorf("\n%swant\n%s", got, want)
	}
	text.Reset()
	if err := printTasks(&text, []client.Record{*recordFrom(t, `{"task":"01JE4Z5Q8W3V9K2M7N6P0R1S2T","status":"done","action":"a\tb","queue":"q","attempt":1}`)}, true); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(text.String(), "\n"); len(lines) != 3 || strings.Index(lines[0], "STATUS") != strings.Index(lines[1], "done") ||
		!strings.Contains(lines[1], `a\u0009b`) {
		t.Errorf("the table is\n%s", text.String())
	}
}
