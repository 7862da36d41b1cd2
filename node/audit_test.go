package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// audited returns the audit of a node as a client reads it, the oldest entry first, and each entry as who, verb, what,
// detail and count.
func audited(t *testing.T, s *stage, client, query string) (lines []string, cursor string) {
	t.Helper()
	status, text := webAs(t, s, client, "GET", "/v1/audit"+query, "")
	var answer struct {
		Entries []task.AuditEntry
		Cursor  string
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
		t.Fatal(status, text, err)
	}
	for _, e := range answer.Entries {
		line := fmt.Sprintf("%s|%s|%s|%s|%s|%s|%d", e.Who, e.Name, e.Key, e.Verb, e.What, e.Detail, e.Count)
		lines = append([]string{line}, lines...)
	}
	return lines, answer.Cursor
}

func TestTheAuditSaysWhoMadeWhichChange(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	ask := func(client, line string) {
		t.Helper()
		if reply := askAs(t, s, client, line); strings.Contains(reply, `"error"`) && !strings.Contains(reply, "conflict") {
			t.Fatal(line, reply)
		}
	}
	web := func(client, method, path, body string) string {
		t.Helper()
		status, text := webAs(t, s, client, method, path, body)
		if status >= 400 && status != http.StatusConflict {
			t.Fatal(method, path, status, text)
		}
		return text
	}
	first, own := keep(t, kept, "token:admin"), keep(t, kept, "token:submitter")
	ask("operator", `{"op":"cancel","task":"`+first+`"}`)
	ask("operator", `{"op":"cancel","task":"`+first+`"}`) // changes nothing
	web("submitter", "POST", "/v1/tasks/"+own+"/cancel", "")
	ask("operator", `{"op":"retry","task":"`+first+`"}`)
	web("operator", "POST", "/v1/tasks/"+first+"/retry", "") // a conflict
	web("operator", "POST", "/v1/queues/images/pause", "")
	ask("operator", `{"op":"pause","queue":"images"}`) // changes nothing
	ask("operator", `{"op":"resume","queue":"images"}`)
	for range 700 { // more than the store is asked to change at once
		keep(t, kept, "token:submitter")
	}
	ask("submitter", `{"op":"cancel","filter":{"queue":"images","meta":{}}}`)
	ask("submitter", `{"op":"cancel","filter":{"queue":"images"}}`) // changes nothing
	web("operator", "POST", "/v1/tasks/retry", `{"filter":{"status":"cancelled","action":"idle"},"limit":2}`)
	var key struct{ ID, Key string }
	text := web("admin", "POST", "/v1/keys", `{"name":"web","grants":["mint:*","see:own"]}`)
	if err := json.Unmarshal([]byte(text), &key); err != nil {
		t.Fatal(err)
	}
	minted, _ := webByToken(t, s, key.Key, "POST", "/v1/passes", `{"sub":"<user>","grants":["see:own"],"expires":60}`)
	refused, _ := webByToken(t, s, key.Key, "POST", "/v1/passes", `{"sub":"x","grants":["run:*"]}`)
	if minted != http.StatusOK || refused != http.StatusForbidden {
		t.Fatal(minted, refused)
	}
	web("admin", "DELETE", "/v1/keys/"+key.ID, "")
	web("admin", "DELETE", "/v1/keys/"+key.ID, "") // changes nothing

	want := []string{
		"token:operator|||cancel|" + first + "||1",
		"token:submitter|||cancel|" + own + "||1",
		"token:operator|||retry|" + first + "||1",
		"token:operator|||pause|images||1",
		"token:operator|||resume|images||1",
		`token:submitter|||cancel||{"queue":"images","owner":"token:submitter"}|700`,
		`token:operator|||retry||{"action":"idle","status":"cancelled"}|2`,
		"token:admin|||create_key|" + key.ID + `|{"name":"web","grants":["mint:*","see:own"]}|1`,
		"key:" + key.ID + `|web||mint_pass|<user>|{"grants":["see:own"],"expires_s":60}|1`,
		"token:admin|||revoke_key|" + key.ID + `|{"name":"web","grants":["mint:*","see:own"]}|1`,
	}
	got, _ := audited(t, s, "auditor", "")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	page, cursor := audited(t, s, "admin", "?who=token:operator&limit=2")
	next, last := audited(t, s, "admin", "?who=token:operator&limit=3&cursor="+cursor)
	if strings.Join(append(next, page...), "\n") != strings.Join([]string{want[0], want[2], want[3], want[4], want[6]}, "\n") || last != "" {
		t.Errorf("the changes of an operator: %v, %v, %q", next, page, last)
	}
	for _, query := range []string{"?verb=fly", "?since=yesterday", "?until=", "?limit=0", "?limit=201", "?cursor=x", "?cursor=-1", "?who=%ff", "?what=x"} {
		if status, text := webAs(t, s, "auditor", "GET", "/v1/audit"+query, ""); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
}

func TestAChangeWithoutATokenIsOfNobody(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	s := openStage(t, node.Config{Durable: &durable.Config{Store: kept}})
	id := keep(t, kept, "")
	v := visit(t, s.addr)
	v.send(`{"id":1,"op":"cancel","task":"` + id + `"}` + "\n")
	v.expect(`{"id":1,"status":"cancelled",…`)
	_, text := webByToken(t, s, "", "GET", "/v1/audit", "")
	if !strings.Contains(text, `"verb":"cancel","what":"`+id+`","count":1}`) || strings.Contains(text, `"who"`) {
		t.Error(text)
	}
}
