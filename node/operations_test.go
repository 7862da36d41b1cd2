package node_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/task"
)

// pageAs sends a form of the dashboard, or asks for a page if form is "", and returns the status, where it leads and the text.
func pageAs(t *testing.T, s *stage, client, path, form string) (status int, to, text string) {
	t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+tokenOf(client))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "text/html")
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Location"), string(body)
}

func TestAnOperationChangesAndShowsWhatTheVisitorMay(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	var theirs, own []string
	for range 3 {
		theirs, own = append(theirs, keep(t, kept, "token:admin")), append(own, keep(t, kept, "token:submitter"))
	}
	for _, client := range []string{"viewer", "worker", "narrow", "auditor"} {
		for _, path := range []string{"/tasks/preview", "/tasks/change"} {
			if status, to, _ := pageAs(t, s, client, path, "do=cancel-all&queue=images"); status != http.StatusForbidden {
				t.Errorf("%s by %s: %d to %s", path, client, status, to)
			}
		}
	}
	if status, _, text := pageAs(t, s, "submitter", "/tasks/preview", "do=cancel-all&queue=images"); status != http.StatusOK || !strings.Contains(text, "<strong>3 tasks</strong>") {
		t.Errorf("a preview of one's own tasks: %d\n%s", status, text)
	}
	chosen := url.Values{"do": {"cancel"}, "task": {theirs[0], own[0]}}.Encode()
	if status, _, text := pageAs(t, s, "submitter", "/tasks/preview", chosen); status != http.StatusOK || strings.Contains(text, "tasks/"+theirs[0]) || !strings.Contains(text, "tasks/"+own[0]) {
		t.Errorf("a preview names the task of somebody else: %d", status)
	}
	begun := map[string]string{}
	for name, form := range map[string]string{"chosen": chosen, "all": "do=cancel-all&queue=images"} {
		status, to, text := pageAs(t, s, "submitter", "/tasks/change", form)
		if status != http.StatusSeeOther {
			t.Fatalf("%s: %d %s", name, status, text)
		}
		begun[name] = strings.TrimPrefix(to, "..")
	}
	for name, path := range begun {
		for text := ""; !strings.Contains(text, "Done."); { // it may not have ended yet
			var status int
			if status, _, text = pageAs(t, s, "submitter", path, ""); status != http.StatusOK {
				t.Fatalf("%s: %d %s", name, status, text)
			}
		}
		for client, want := range map[string]int{"viewer": http.StatusOK, "narrow": http.StatusNotFound, "worker": http.StatusForbidden} {
			if status, _, _ := pageAs(t, s, client, path, ""); status != want {
				t.Errorf("%s, seen by %s: %d, want %d", name, client, status, want)
			}
		}
		for client, want := range map[string]int{"viewer": http.StatusForbidden, "narrow": http.StatusNotFound, "submitter": http.StatusSeeOther, "operator": http.StatusSeeOther} {
			if status, _, _ := pageAs(t, s, client, path+"/stop", "x=1"); status != want {
				t.Errorf("%s, stopped by %s: %d, want %d", name, client, status, want)
			}
		}
	}
	list, err := kept.Get(t.Context(), append(theirs, own...))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		want := task.Queued
		if list[i].Owner == "token:submitter" {
			want = task.Cancelled
		}
		if list[i].State != want {
			t.Errorf("a task of %s is %s", list[i].Owner, list[i].State)
		}
	}
	if lines, _ := audited(t, s, "admin", "?who=token:submitter"); len(lines) != 2 && len(lines) != 1 || !strings.Contains(strings.Join(lines, "\n"), "cancel") {
		t.Errorf("the audit has %q", lines)
	}
	_, _, lines := pageAs(t, s, "submitter", "/tasks/export?queue=images", "")
	if strings.Count(lines, "\n") != 3 || !strings.Contains(lines, `"status":"cancelled","task":"`+own[0]) || strings.Contains(lines, theirs[0]) {
		t.Errorf("an export of one's own tasks has\n%s", lines)
	}
}
