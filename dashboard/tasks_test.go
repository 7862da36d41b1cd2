package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func TestAFilterIsTheQueryOfTheStore(t *testing.T) {
	s := serve(t, filled(""))
	for address, want := range map[string]store.Query{
		"state=failed&queue=mail&action=crop":              {State: task.Failed, Queue: "mail", Action: "crop"},
		"node=n1&worker=w1&owner=key:ana":                  {Node: "n1", Worker: "w1", Owner: "key:ana"},
		"meta=customer=ana=b":                              {Meta: map[string]string{"customer": "ana=b"}},
		"since=90m":                                        {Since: noon.Add(-90 * time.Minute)},
		"since=2026-11-29T08:00&until=2026-11-29T09:00:30": {Since: noon.Add(-28 * time.Hour), Until: noon.Add(-27*time.Hour + 30*time.Second)},
		"since=2026-11-29T08:00:00-02:00":                  {Since: noon.Add(-26 * time.Hour)},
	} {
		if got := s.get("/tasks?" + strings.ReplaceAll(address, ":", "%3A")); got.Code != http.StatusOK {
			t.Errorf("%s: %d", address, got.Code)
		}
		got := s.source.queries[len(s.source.queries)-1]
		want.Look, want.Limit = maxSearch, maxCounted
		if !got.Since.Equal(want.Since) || !got.Until.Equal(want.Until) {
			t.Errorf("%s: from %v until %v", address, got.Since, got.Until)
		}
		got.Since, got.Until, want.Since, want.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if !equalQueries(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", address, got, want)
		}
	}
	for _, bad := range []string{"meta=customer", "since=yesterday", "until=25:00", "since=-5m", "node=%00", "owner=" + strings.Repeat("x", 5000)} {
		if got := s.get("/tasks?" + bad); got.Code != http.StatusBadRequest {
			t.Errorf("%.30s: %d", bad, got.Code)
		}
	}
}

func equalQueries(a, b store.Query) bool {
	return a.Queue == b.Queue && a.Action == b.Action && a.Owner == b.Owner && a.Node == b.Node && a.Worker == b.Worker && a.State == b.State &&
		a.Look == b.Look && a.Limit == b.Limit && slices.Equal(sorted(a.Meta), sorted(b.Meta)) && a.Meta["customer"] == b.Meta["customer"]
}

func TestAPageSaysHowManyTasksMatchAndHowFarItHasLooked(t *testing.T) {
	f := filled("")
	f.tasks = nil
	for i := range 1500 {
		f.tasks = append(f.tasks, task.Task{ID: idOf(9000 - i), Action: "upper", State: task.Queued, CreatedAt: noon})
	}
	s := serve(t, f)
	if text := s.get("/tasks?state=queued").Body.String(); !strings.Contains(text, "1,000&#43; tasks") || strings.Count(text, `<tr id="t`) != pageTasks {
		t.Errorf("of 1,500 tasks the page shows %d", strings.Count(text, `<tr id="t`))
	}
	f.tasks = f.tasks[:70]
	text := s.get("/tasks?state=queued").Body.String()
	if !strings.Contains(text, "<strong>70 tasks</strong>") || !strings.Contains(text, "cursor="+idOf(9000-pageTasks+1)) {
		t.Error("of 70 tasks the page does not count 70")
	}
	s.get("/tasks?state=queued", "Posta-Part", "main")
	if limit := s.source.queries[len(s.source.queries)-1].Limit; limit != pageTasks {
		t.Errorf("a live refresh reads %d tasks", limit)
	}
	f.looked = idOf(8990) // the store has looked at the newest ones only
	text = s.get("/tasks?action=nope").Body.String()
	if !strings.Contains(text, "the newest 10,000 tasks searched, back to") || !strings.Contains(text, "cursor="+f.looked) {
		t.Error("a page of a store that has not looked at all tasks does not go on")
	}
}

func TestEachFieldOfAFilterCanBeRemoved(t *testing.T) {
	s := serve(t, filled(""))
	text := s.get("/tasks?" + url.Values{"state": {"failed"}, "node": {"n1"}, "meta": {"a=b"}}.Encode()).Body.String()
	for _, want := range []string{`href="./tasks?meta=a%3Db&amp;node=n1"`, `href="./tasks?meta=a%3Db&amp;state=failed"`, `href="./tasks?node=n1&amp;state=failed"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no link %s", want)
		}
	}
}
