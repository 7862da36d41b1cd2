package dashboard

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestTheHistoryMergesTheNodesOfAProcess(t *testing.T) {
	h, begin := NewHistory(), noon.Add(-10*time.Second)
	bounds := []float64{0.1, 1}
	for i := range 8 {
		for _, node := range []string{"n1", "n2"} {
			h.Add(node, begin.Add(time.Duration(i)*time.Second), Counters{
				Started: begin, Done: int64(3 * i), Failed: int64(i), RunsDone: int64(5 * i), WaitBounds: bounds, RunBounds: bounds,
				Waits: []int64{int64(9 * i), int64(i), 0}, Runs: []int64{0, int64(i), 0}, Slots: 4, Busy: 1, Actions: map[string]ActionCount{"upper": {int64(5 * i), float64(i)}},
			})
		}
	}
	p := h.Past("5m", noon)
	at := len(p.Ended[0]) - 5 // five seconds ago
	if p.Ended[0][at] != 6 || p.Ended[1][at] != 2 || p.Runs[0][at] != 10 || p.Total != 2*7*4 || p.Failed != 14 {
		t.Errorf("at %d: %v %v %v, total %d, failed %d", at, p.Ended[0][at], p.Ended[1][at], p.Runs[0][at], p.Total, p.Failed)
	}
	if p.Wait.Count != 140 || p.Wait.P50 >= 0.1 || p.Wait.P99 <= 0.1 || p.Wait.P99 > 1 || p.Run.P50 != 0.55 {
		t.Errorf("percentiles: %+v %+v", p.Wait, p.Run)
	}
	if hour := h.Past("1h", noon.Add(20*time.Second)); hour.Total != p.Total {
		t.Errorf("the hour has %d tasks", hour.Total)
	}
	top := topActions(h.Latest(noon), 5)
	if len(top) != 1 || top[0].Attempts != 70 || top[0].Share != 1 || top[0].Mean != 200*time.Millisecond {
		t.Errorf("actions: %+v", top)
	}
	if late := h.Latest(noon.Add(time.Minute)); len(late) != 0 {
		t.Errorf("nodes that add nothing are there after a minute: %v", late)
	}
}

func TestARestartedNodeCountsAnew(t *testing.T) {
	h := NewHistory()
	h.Add("n1", noon, Counters{Started: noon, Done: 1000})
	h.Add("n1", noon.Add(time.Second), Counters{Started: noon.Add(time.Second), Done: 5})
	h.Add("n1", noon.Add(2*time.Second), Counters{Started: noon.Add(time.Second), Done: 7})
	if p := h.Past("5m", noon.Add(4*time.Second)); p.Total != 2 {
		t.Errorf("total %d", p.Total)
	}
}

func TestAnOldRoundOfTheRingIsNotShown(t *testing.T) {
	h := NewHistory()
	h.Add("n1", noon, Counters{})
	h.Add("n1", noon.Add(time.Second), Counters{Done: 4})
	if p := h.Past("5m", noon.Add(time.Hour)); p.Total != 0 || len(p.Ended[0]) != len(p.Backlog) {
		t.Errorf("an hour later: %d", p.Total)
	}
}

func TestAHistoryBecomesAttempts(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	got := attemptsOf([]task.Entry{
		{Seq: 1, State: task.Queued, At: at(0)},
		{Seq: 2, State: task.Running, Attempt: 1, At: at(2), Node: "n1"},
		{Seq: 3, State: task.Scheduled, Attempt: 1, At: at(5), Error: "no route"},
		{Seq: 4, State: task.Queued, At: at(9)},
		{Seq: 5, State: task.Running, Attempt: 2, At: at(10), Node: "n2", Worker: "w"},
		{Seq: 6, State: task.Queued, Attempt: 2, At: at(11)},
		{Seq: 7, State: task.Running, Attempt: 3, At: at(12)},
	})
	if len(got) != 3 || got[0].Outcome != "failed" || got[0].Waited != 2*time.Second || got[0].Took(noon) != 3*time.Second || got[1].Outcome != "queued" || got[1].Worker != "w" ||
		!got[2].Ended.IsZero() || got[2].Took(at(20)) != 8*time.Second {
		t.Errorf("%+v", got)
	}
}

func TestATaskSaysWhyItWaits(t *testing.T) {
	base := task.Task{ID: idOf(50), Action: "upper", State: task.Queued, CreatedAt: noon.Add(-time.Minute)}
	base.Queue, base.MaxAttempts = "mail", 3
	for name, c := range map[string]struct {
		change func(f *fakeSource, t *task.Task)
		want   string
	}{
		"first": {func(*fakeSource, *task.Task) {}, "no older task of its queue waits"},
		"ahead": {func(f *fakeSource, t *task.Task) {
			f.tasks = append(f.tasks, task.Task{ID: idOf(3), State: task.Queued, Options: t.Options, CreatedAt: noon.Add(-time.Hour)})
		}, "1 older task of its queue waits, too."},
		"paused":    {func(f *fakeSource, t *task.Task) { f.queues[0].Paused = true }, "Its queue mail is paused."},
		"no action": {func(f *fakeSource, t *task.Task) { t.Action = "nope" }, "No node and no worker has the action nope."},
		"no queue":  {func(f *fakeSource, t *task.Task) { f.nodes[0].Queues = []string{"other"} }, "No node that has its action works the queue mail."},
		"reserved":  {func(f *fakeSource, t *task.Task) { t.Reserved = "n7" }, "Node n7 has claimed it"},
		"suspect":   {func(f *fakeSource, t *task.Task) { t.Suspect, t.Crashes = true, 1 }, "waits to run alone"},
		"backoff": {func(f *fakeSource, t *task.Task) {
			t.State, t.Failures, t.Attempt, t.RunAt = task.Scheduled, 1, 1, noon.Add(40*time.Second)
		}, "Attempt 1 failed; the next one begins in 40 s. It has 2 left."},
		"later": {func(f *fakeSource, t *task.Task) { t.State, t.RunAt = task.Scheduled, noon.Add(90*time.Second) }, "It begins in 1 min 30 s, at 12:01:30 UTC."},
		"running": {func(f *fakeSource, t *task.Task) {
			t.State, t.Attempt, t.Node, t.StartedAt = task.Running, 2, "n1", noon.Add(-3*time.Second)
		}, "Attempt 2 has run on n1 for 3 s."},
		"cancelling": {func(f *fakeSource, t *task.Task) { t.State, t.Cancelling = task.Running, true }, "It was asked to stop."},
		"expired":    {func(f *fakeSource, t *task.Task) { t.State, t.Code = task.Failed, task.Expired }, "No attempt started in time."},
	} {
		f := filled("")
		f.tasks, f.nodes = nil, []task.Node{{Name: "n1", Actions: []string{"upper"}, Queues: []string{"*"}}}
		one := base
		c.change(f, &one)
		f.tasks = append([]task.Task{one}, f.tasks...)
		s := serve(t, f)
		text := s.get("/tasks/" + one.ID).Body.String()
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: the page does not say %q", name, c.want)
		}
	}
}

func TestTheOverviewSaysWhatIsWrongWorstFirst(t *testing.T) {
	f := filled("")
	f.parts.StoreAway = true
	f.nodes = append(f.nodes, task.Node{Name: "n2", Slots: 8, Seen: noon.Add(-20 * time.Second)})
	text := serve(t, f).get("/").Body.String()
	last := 0
	for _, want := range []string{
		"The store does not answer", "The broker does not answer", "Queue video has tasks that no node can run", "Node n2 has not been seen for 20 s", "Node n1 has 1 actions",
		"Worker w1 is stuck", "Queue mail: its oldest task has waited for 2 min (3 tasks queued)", "Queue video is paused. Waiting in it: 4 tasks.",
	} {
		at := strings.Index(text, want)
		if at < last {
			t.Errorf("%q is at %d, after %d", want, at, last)
		}
		last = max(last, at)
	}
	if good := serve(t, &fakeSource{store: true}).get("/").Body.String(); !strings.Contains(good, "Nothing is wrong: 0 nodes, 0 queues.") {
		t.Error("a healthy system has findings")
	}
}

func TestNumbersAndTimesAreWrittenInTheirLanguage(t *testing.T) {
	languages, err := readLanguages()
	if err != nil {
		t.Fatal(err)
	}
	en, es := languages[0], languages[1]
	for got, want := range map[string]string{
		en.number(1234567): "1,234,567", es.number(1234567): "1.234.567", es.number(1234): "1234", en.number(1234): "1,234", en.decimal(1234.5, 1): "1,234.5", es.decimal(2.5, 1): "2,5",
		en.number(-5): "−5", en.span(90 * time.Second): "1 min 30 s", en.span(1500 * time.Millisecond): "1.5 s", es.span(1500 * time.Millisecond): "1,5 s", en.span(50 * time.Hour): "2 d 2 h",
		en.size(1536): "1.5 KiB", en.size(10): "10 B", en.ago(noon, noon.Add(-3*time.Minute)): "3 min ago", es.ago(noon, noon.Add(3*time.Hour)): "en 3 h", en.count("tasks", 1): "1 task",
		es.count("tasks", 2000): "2000 tareas", en.rate(0.01): "<0.1", en.rate(12.3): "12",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNumbersOfABodyAreShownAsTheyWereSent(t *testing.T) {
	text := serve(t, filled("")).get("/tasks/" + idOf(900)).Body.String()
	if !strings.Contains(text, "18446744073709551616.10") {
		t.Error("a large number was changed")
	}
}
