package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

const formFilter = "state=queued&queue=mail&action=resize&meta=customer%3Dana"

func TestAChangeOfManyTasksIsPreviewedAndThenAnOperation(t *testing.T) {
	s := serve(t, filled(""))
	got := s.post("/tasks/preview", "do=cancel-all&"+formFilter)
	text := got.Body.String()
	if got.Code != http.StatusOK || s.source.asked != nil || !strings.Contains(text, "<strong>1 task</strong>") || !strings.Contains(text, `value="cancel-all"`) ||
		!strings.Contains(text, `name="meta" value="customer=ana"`) || !strings.Contains(text, "tasks/"+idOf(899)) {
		t.Errorf("the preview: %d, asked %q\n%s", got.Code, s.source.asked, text)
	}
	got = s.post("/tasks/change", "do=cancel-all&"+formFilter)
	if got.Code != http.StatusSeeOther || got.Header().Get("Location") != "../operations/"+idOf(3) ||
		!slices.Equal(s.source.asked, []string{"cancel tasks?action=resize&meta=customer%3Dana&queue=mail&state=queued"}) {
		t.Errorf("the change: %d to %s, asked %q", got.Code, got.Header().Get("Location"), s.source.asked)
	}
	if query := s.source.queries[len(s.source.queries)-1]; query.State != task.Queued || query.Meta["customer"] != "ana" {
		t.Errorf("the query is %+v", query)
	}
}

func TestChosenTasksAreChangedWhateverTheFilterIs(t *testing.T) {
	s := serve(t, filled(""))
	chosen := "&task=" + idOf(900) + "&task=" + idOf(896) + "&task=" + idOf(900) + "&task=nonsense&q=text"
	if text := s.post("/tasks/preview", "do=retry"+chosen).Body.String(); !strings.Contains(text, "<strong>2 tasks</strong>") || strings.Count(text, `name="task"`) != 2 {
		t.Errorf("the preview:\n%s", text)
	}
	s.post("/tasks/change", "do=retry"+chosen)
	if want := []string{"retry tasks" + idOf(900) + " " + idOf(896)}; !slices.Equal(s.source.asked, want) {
		t.Errorf("asked %q, want %q", s.source.asked, want)
	}
	for _, bad := range []string{"do=retry", "do=retry&task=nonsense", "do=fail-all", "do=cancel-all&q=text", "do=retry&task=" + strings.Join(manyIDs(task.MaxChosen+1), "&task=")} {
		for _, path := range []string{"/tasks/preview", "/tasks/change"} {
			if got := s.post(path, bad); got.Code != http.StatusBadRequest {
				t.Errorf("%s %.40s: %d", path, bad, got.Code)
			}
		}
	}
}

func manyIDs(n int) (ids []string) {
	for i := range n {
		ids = append(ids, idOf(i))
	}
	return ids
}

func TestTheTasksOfAFailureAreOneFilter(t *testing.T) {
	s := serve(t, filled(""))
	fault := task.Fault("resize", "action_failed", `cannot read 18 of "b-18.png"`)
	if text := s.get("/failures").Body.String(); !strings.Contains(text, `name="fault" value="`+fault+`"`) {
		t.Error("the page of failures has no form for the group")
	}
	s.get("/tasks?fault=" + fault)
	query := s.source.queries[len(s.source.queries)-1]
	failed := s.source.tasks[slices.IndexFunc(s.source.tasks, func(t task.Task) bool { return t.State == task.Failed })]
	other := failed
	other.Error = "another"
	if query.State != task.Failed || query.Fault != fault || !query.Admits(&failed) || query.Admits(&other) {
		t.Errorf("the query is %+v", query)
	}
}

func TestAnOperationShowsItsProgressItsEndAndWhereItRuns(t *testing.T) {
	s := serve(t, filled(""))
	op := task.Operation{ID: idOf(80), Change: task.Cancel, Filter: "tasks?state=queued", Who: "ana", Node: "n7", Began: noon.Add(-time.Minute), Matched: 10_000, Changed: 4000, Refused: 10, More: true}
	for name, c := range map[string]struct {
		change func(op *task.Operation)
		want   []string
		never  string
	}{
		"running":  {func(*task.Operation) {}, []string{"Under way.", "4,000", "5,990+", "n7", "ana", `/stop"`, "It goes on when this page is closed.", "<noscript><meta http-equiv"}, "Go on with the rest"},
		"stopping": {func(op *task.Operation) { op.Stopping = true }, []string{"It was asked to stop."}, `/stop"`},
		"done":     {func(op *task.Operation) { op.Ended, op.More = noon, false }, []string{"Done."}, "http-equiv"},
		"stopped":  {func(op *task.Operation) { op.Ended, op.Error = noon, "stopped" }, []string{"Stopped.", "Go on with the rest", `value="cancel-all"`, `name="state" value="queued"`}, "Under way"},
		"drained":  {func(op *task.Operation) { op.Ended, op.Error = noon, "draining" }, []string{"its node has stopped"}, "Under way"},
		"failed":   {func(op *task.Operation) { op.Ended, op.Error = noon, "the store is away" }, []string{"Ended early.", "the store is away"}, "Under way"},
		"lost":     {func(op *task.Operation) { op.Silent = 2 * time.Minute }, []string{"Its node does not answer any more.", "Node n7 was heard of last 2 min ago.", "Go on with the rest"}, `/stop"`},
		"chosen":   {func(op *task.Operation) { op.IDs, op.Ended, op.Error = manyIDs(3), noon, "stopped" }, []string{"3 selected tasks", `value="cancel"`, `name="task"`}, `cancel-all`},
	} {
		one := op
		c.change(&one)
		s.source.operations = []task.Operation{one}
		text := s.get("/operations/" + op.ID).Body.String()
		for _, want := range c.want {
			if !strings.Contains(strings.ReplaceAll(text, "&#43;", "+"), want) {
				t.Errorf("%s: the page does not say %q", name, want)
			}
		}
		if strings.Contains(text, c.never) {
			t.Errorf("%s: the page says %q", name, c.never)
		}
		if list := s.get("/operations").Body.String(); !strings.Contains(list, `operations/`+op.ID) {
			t.Errorf("%s: the list does not have it", name)
		}
	}
	s.source.narrow = true // there is no live stream for this visitor
	s.source.operations = []task.Operation{op}
	if text := s.get("/operations/" + op.ID).Body.String(); strings.Contains(text, "<noscript>") || !strings.Contains(text, "http-equiv") {
		t.Error("the page does not load again by itself")
	}
}

func TestAnExportHasAllTasksOfTheFilterAsLines(t *testing.T) {
	f := filled("")
	f.tasks = nil
	for i := range 2500 {
		f.tasks = append(f.tasks, task.Task{ID: idOf(9000 - i), Action: []string{"upper", "lower"}[i%2], State: task.Queued})
	}
	s := serve(t, f)
	got := s.get("/tasks/export?state=queued")
	if lines := strings.Fields(got.Body.String()); got.Code != http.StatusOK || got.Header().Get("Content-Type") != "application/x-ndjson" ||
		len(lines) != 2500 || lines[0] != idOf(9000) || lines[2499] != idOf(6501) {
		t.Errorf("%d, %d lines", got.Code, strings.Count(got.Body.String(), "\n"))
	}
	if n := strings.Count(s.get("/tasks/export?q=lower").Body.String(), "\n"); n != 1250 {
		t.Errorf("with a text: %d lines", n)
	}
	if got := s.get("/tasks/export?state=nope"); got.Code != http.StatusBadRequest {
		t.Errorf("a filter that is wrong: %d", got.Code)
	}
}

func TestTheFormsOfAFilterKeepItsFaultAndItsDurations(t *testing.T) {
	s := serve(t, filled(""))
	text := s.get("/tasks?fault=0123456789ab&since=1h&until=15m").Body.String()
	_, form, _ := strings.Cut(text, `<form class="row" action="./tasks"`)
	form, _, _ = strings.Cut(form, "</form>")
	for _, want := range []string{`name="fault" value="0123456789ab"`, `type="hidden" name="since" value="1h"`, `type="hidden" name="until" value="15m"`} {
		if !strings.Contains(form, want) {
			t.Errorf("the form of the filter does not have %s", want)
		}
	}
	s.get("/tasks?since=1h&since=&until=15m&until=2026-11-30T11%3A00")
	query := s.source.queries[len(s.source.queries)-1]
	if !query.Since.Equal(noon.Add(-time.Hour)) || !query.Until.Equal(noon.Add(-time.Hour)) {
		t.Errorf("from %v until %v", query.Since, query.Until)
	}
	text = s.post("/tasks/preview", "do=cancel-all&since=1h").Body.String()
	if !strings.Contains(text, `name="since" value="2026-11-30T11:00:00Z"`) || !strings.Contains(text, "tasks?since=1h") {
		t.Errorf("the preview:\n%s", text)
	}
	if got := s.do(http.MethodHead, "/tasks/export", ""); got.Code != http.StatusOK || got.Body.Len() > 0 || len(s.source.queries) > 3 {
		t.Errorf("HEAD of an export: %d, %d queries", got.Code, len(s.source.queries))
	}
}
