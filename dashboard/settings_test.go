package dashboard

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/task"
)

func TestSettingsShowKeysAndTheAudit(t *testing.T) {
	t.Parallel()
	const hostile = `<script>"><img onerror=x>`
	source := &fakeSource{
		store: true,
		keys:  []task.AccessKey{{ID: "abc", Name: "web" + hostile, Grants: []string{"run:*"}, By: "ana", Created: noon}, {ID: "old", Name: "gone", Revoked: noon, Created: noon}},
		audit: []task.AuditEntry{
			{Seq: 2, At: noon, Author: task.Author{Who: "ana" + hostile}, Verb: task.AuditCancel, Detail: json.RawMessage(`{"queue":"<mail>"}`), Count: 1234},
			{Seq: 1, At: noon, Author: task.Author{Who: "key:abc", Name: "web"}, Verb: task.AuditPause, What: "images", Count: 1},
		},
	}
	s := serve(t, source)
	page := s.get("/settings").Body.String()
	for _, want := range []string{"settings/keys/abc/revoke", "run:*", "key:abc (web)", "images", "1,234", "&lt;mail&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if strings.Contains(page, hostile) || strings.Contains(page, "settings/keys/old/revoke") {
		t.Error("the page has hostile text, or revokes a key that is revoked")
	}
	if page := s.get("/settings?by=key:abc").Body.String(); strings.Contains(page, "1,234") || !strings.Contains(page, "images") {
		t.Error("the audit is not filtered")
	}
	if page := s.get("/settings", "Accept-Language", "es").Body.String(); !strings.Contains(page, "Auditoría") {
		t.Error("the audit is not in Spanish")
	}
	source.refusal = task.Refuse(task.Forbidden, "no")
	if page := s.get("/settings").Body.String(); strings.Contains(page, `id="keys"`) || strings.Contains(page, `id="audit"`) {
		t.Error("a visitor who may not sees keys or the audit")
	}
	source.refusal = task.Refuse(task.Unavailable, "the <store> is away")
	if page := s.get("/settings").Body.String(); strings.Count(page, "the &lt;store&gt; is away") != 2 {
		t.Error("the sections of keys and of the audit do not say why they are empty")
	}
	source.refusal = nil
	for _, verb := range []string{"%00", "enqueue"} {
		if code := s.get("/settings?verb=" + verb).Code; code != http.StatusBadRequest {
			t.Errorf("verb=%s: %d", verb, code)
		}
	}
}

func TestAKeyIsMadeAndShownOnce(t *testing.T) {
	t.Parallel()
	source := &fakeSource{store: true}
	s := serve(t, source)
	made := s.post("/settings/keys", "name=web&role=viewer&grants=run:a+run:b&days=2")
	if body := made.Body.String(); made.Code != http.StatusOK || !strings.Contains(body, "posta_new_secret") || !strings.Contains(body, "signs-passes") {
		t.Errorf("%d %s", made.Code, body)
	}
	if body := s.get("/settings").Body.String(); strings.Contains(body, "posta_new_secret") {
		t.Error("the key is shown again")
	}
	wrong := s.post("/settings/keys", "name=&grants=run:a").Body.String()
	if !strings.Contains(wrong, "name &lt;is&gt; missing") || !strings.Contains(wrong, `value="run:a"`) {
		t.Error("a form that is refused does not come back with the reason")
	}
	for _, days := range []string{"30d", "1.5", "-1", "0", "9999", "x"} {
		if page := s.post("/settings/keys", "name=web&grants=run:a&days="+days).Body.String(); !strings.Contains(page, "days must be an integer from 1 to 3650") {
			t.Errorf("days=%s is accepted", days)
		}
	}
	revoked := s.post("/settings/keys/abc/revoke", "")
	if revoked.Code != http.StatusSeeOther || revoked.Header().Get("Location") != "../../../settings?did=revoked" {
		t.Errorf("%d %v", revoked.Code, revoked.Header())
	}
	if want := []string{"create web[run:a run:b see:*] 48h0m0s", "revoke abc"}; !slices.Equal(source.asked, want) {
		t.Errorf("asked %q, want %q", source.asked, want)
	}
	foreign := s.post("/settings/keys", "name=web&role=admin", "Sec-Fetch-Site", "cross-site")
	if foreign.Code != http.StatusForbidden {
		t.Errorf("a form of another site: %d", foreign.Code)
	}
}
