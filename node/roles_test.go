package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// columns are the clients of the tables below. narrow is limited to an action in a queue, and auditor sees no tasks.
var columns = []string{"admin", "submitter", "viewer", "operator", "worker", "narrow", "auditor"}

// The answers in the tables, by letter.
var answers = map[rune]string{
	'+': "", 'f': "forbidden", 'n': "not_found", 'c': "conflict", 's': "stale", 'i': "invalid_request", 'u': "unavailable",
}

// openRoles starts a node with a client for each column.
func openRoles(t *testing.T) (s *stage, kept store.Store) {
	t.Helper()
	grants := map[string]string{"narrow": "enqueue:upper@mail see:upper@mail", "auditor": "audit:*"}
	for _, role := range auth.Roles() {
		list, err := auth.RoleGrants(role)
		if err != nil {
			t.Fatal(err)
		}
		grants[role] = strings.Join(list, " ")
	}
	var file strings.Builder
	for _, name := range columns {
		fmt.Fprintf(&file, "%s %s %s\n", name, tokenOf(name), grants[name])
	}
	blobs, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kept = store.NewMemory(store.MemoryConfig{})
	s = openStage(t, node.Config{Tokens: loadTokens(t, file.String()), Keys: newRing(t, kept), Durable: &durable.Config{Store: kept, Blobs: blobs}})
	return s, kept
}

func tokenOf(name string) string { return name + "-correct-horse-battery" }

// keep stores a task of an action that nobody has, in the queue images.
func keep(t *testing.T, kept store.Store, owner string) string {
	t.Helper()
	own := task.Task{ID: ulid.Make().String(), Action: "idle", Payload: task.Body{Inline: []byte(`"secret"`)}, Options: task.Options{Queue: "images", Owner: owner}}
	own.Complete()
	if _, err := kept.Accept(t.Context(), []task.Task{own}); err != nil {
		t.Fatal(err)
	}
	return own.ID
}

// row is a request and its answer for each column. TASK in the request is a task of admin, and OWN one of the client.
type row struct{ request, want string }

// The lines, in the order of the ops. Each op has at least one.
var lineRows = []row{
	{`{"op":"run","action":"upper"}`, "++fffff"},
	{`{"op":"enqueue","action":"upper"}`, "++fffff"},
	{`{"op":"enqueue","action":"upper","queue":"mail"}`, "++fff+f"},
	{`{"op":"enqueue","action":"upper","queue":"mail","wait":true}`, "++fff+f"},
	{`{"op":"get","task":"TASK"}`, "+n++nnn"},
	{`{"op":"get","task":"OWN","payload":true}`, "++++nnn"},
	{`{"op":"get","task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ"}`, "nnnnnnn"},
	{`{"op":"wait","task":"TASK","timeout":0}`, "+n++nnn"},
	{`{"op":"wait","task":"OWN","timeout":0}`, "++++nnn"},
	{`{"op":"watch","task":"TASK"}`, "+n++nnn"},
	{`{"op":"watch","task":"OWN"}`, "++++nnn"},
	{`{"op":"cancel","task":"TASK"}`, "+nf+nnn"},
	{`{"op":"cancel","task":"OWN"}`, "++f+nnn"},
	{`{"op":"cancel","filter":{"action":"ghost"}}`, "++f+fff"},
	{`{"op":"retry","task":"TASK"}`, "cnfcnnn"},
	{`{"op":"retry","task":"OWN"}`, "cffcnnn"},
	{`{"op":"retry","filter":{"action":"ghost"}}`, "+ff+fff"},
	{`{"op":"list"}`, "++++f+f"},
	{`{"op":"queues"}`, "++++f+f"},
	{`{"op":"pause","queue":"images"}`, "+nf+nnn"},
	{`{"op":"resume","queue":"images"}`, "+nf+nnn"},
	{`{"op":"resume","queue":"ghost"}`, "nnfnnnn"},
	{`{"op":"ping"}`, "+++++++"},
	{`{"op":"info"}`, "+++++++"},
	{`{"op":"auth","token":"CLIENT-correct-horse-battery"}`, "+++++++"},
	{`{"op":"work","actions":["ghost"]}`, "+fff+ff"},
	{`{"op":"done","lease":"TASK.1"}`, "fffffff"},
	{`{"op":"fail","lease":"TASK.1","error":"x"}`, "fffffff"},
	{`{"op":"release","lease":"TASK.1"}`, "fffffff"},
	{`{"op":"progress","lease":"TASK.1"}`, "sfffsff"},
	{`{"op":"slots","work":"w","slots":0}`, "nfffnff"},
	{`{"op":"leave","work":"w"}`, "nfffnff"},
}

// The requests, in the order of the routes. Each route has at least one.
var routeRows = []row{
	{`POST /v1/run {"action":"upper"}`, "++fffff"},
	{`GET /v1/socket`, "iiiiiii"},
	{`POST /v1/tasks {"action":"upper"}`, "++fffff"},
	{`POST /v1/tasks {"action":"upper","queue":"mail"}`, "++fff+f"},
	{`GET /v1/tasks`, "++++f+f"},
	{`GET /v1/tasks?owner=token:admin`, "++++f+f"},
	{`GET /v1/tasks/TASK`, "+n++nnn"},
	{`GET /v1/tasks/TASK?wait=0`, "+n++nnn"},
	{`GET /v1/tasks/OWN?payload=true`, "++++nnn"},
	{`GET /v1/tasks/TASK/events`, "+n++nnn"},
	{`GET /v1/tasks/OWN/events`, "++++nnn"},
	{`POST /v1/tasks/TASK/cancel`, "+nf+nnn"},
	{`POST /v1/tasks/OWN/cancel`, "++f+nnn"},
	{`POST /v1/tasks/TASK/retry`, "cnfcnnn"},
	{`POST /v1/tasks/OWN/retry`, "cffcnnn"},
	{`POST /v1/tasks/cancel {"filter":{"action":"ghost"}}`, "++f+fff"},
	{`POST /v1/tasks/retry {"filter":{"action":"ghost"}}`, "+ff+fff"},
	{`GET /v1/tasks/TASK/payload`, "+n+++nn"},
	{`GET /v1/tasks/OWN/payload`, "+++++nn"},
	{`GET /v1/tasks/TASK/payload?presign=1`, "iniiinn"},
	{`GET /v1/tasks/TASK/result`, "cnccnnn"},
	{`GET /v1/tasks/OWN/result`, "ccccnnn"},
	{`GET /v1/tasks/TASK/result?presign=1`, "cnccnnn"},
	{`PUT /v1/blobs "x"`, "++ff++f"},
	{`PUT /v1/blobs?presign=1`, "iiffiif"},
	{`GET /v1/queues`, "++++f+f"},
	{`POST /v1/queues/images/pause`, "+nf+nnn"},
	{`POST /v1/queues/images/resume`, "+nf+nnn"},
	{`GET /v1/nodes`, "++++f+f"},
	{`GET /v1/workers`, "++++f+f"},
	{`POST /v1/workers/ghost/quiet`, "nnfnnnn"},
	{`POST /v1/work {"actions":["ghost"],"wait":0}`, "+fff+ff"},
	{`POST /v1/work/beat {"worker":"w","leases":["TASK.1"]}`, "+fff+ff"},
	{`POST /v1/work/TASK.1/done {}`, "fffffff"},
	{`POST /v1/work/TASK.1/fail {"error":"x"}`, "fffffff"},
	{`POST /v1/work/TASK.1/release {}`, "fffffff"},
	{`POST /v1/work/TASK.1/progress {}`, "fffffff"},
	{`GET /v1/audit`, "+fffff+"},
	{`GET /v1/audit?who=token:admin&verb=cancel&limit=1`, "+fffff+"},
	{`GET /posta.js`, "+++++++"},
	{`GET /posta-outbox.js`, "+++++++"},
	{`GET /v1/keys`, "+ff+fff"},
	{`POST /v1/keys {"name":"x","role":"viewer"}`, "+ff+fff"},
	{`DELETE /v1/keys/aaaaaaaaaaaa`, "nffnfff"},
	{`POST /v1/passes {"sub":"x","grants":["run:*"]}`, "fffffff"},
	{`POST /v1/session {"token":"viewer-correct-horse-battery"}`, "+++++++"},
	{`DELETE /v1/session`, "+++++++"},
	{`GET /healthz`, "+++++++"},
	{`GET /readyz`, "+++++++"},
	{`GET /metrics`, "+f++fff"},
	{`GET /openapi.json`, "+++++++"},
	{`GET /`, "+++++++"},
}

func TestEveryOpAsksWhatItsClientMayDo(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	named := map[string]bool{}
	for _, r := range lineRows {
		var op struct{ Op string }
		if err := json.Unmarshal([]byte(r.request), &op); err != nil {
			t.Fatal(err)
		}
		named[op.Op] = true
		for i, want := range r.want {
			client := columns[i]
			v := visit(t, s.addr)
			v.send(`{"id":"t","op":"auth","token":"` + tokenOf(client) + `"}` + "\n")
			v.expect(`{"id":"t","status":"done",…`)
			request := strings.NewReplacer("TASK", keep(t, kept, "token:admin"), "OWN", keep(t, kept, "token:"+client), "CLIENT", client).Replace(r.request)
			v.send(strings.Replace(request, "{", `{"id":1,`, 1) + "\n")
			text, err := v.next()
			if err != nil {
				t.Fatal(err)
			}
			var reply struct{ Code string }
			if err := json.Unmarshal([]byte(text), &reply); err != nil {
				t.Fatal(err)
			}
			if reply.Code != answers[want] {
				t.Errorf("%s: %s\n got %s, want %q", client, request, short(text), answers[want])
			}
			v.conn.Close()
		}
	}
	for op := wire.OpRun; op <= wire.OpLeave; op++ {
		if !named[op.String()] {
			t.Errorf("the table has no row for op %s", op)
		}
	}
}

func TestEveryRouteAsksWhatItsClientMayDo(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	asked := map[string]bool{}
	for _, r := range routeRows {
		for i, want := range r.want {
			client := columns[i]
			other, own := keep(t, kept, "token:admin"), keep(t, kept, "token:"+client)
			request := strings.NewReplacer("TASK", other, "OWN", own).Replace(r.request)
			method, rest, _ := strings.Cut(request, " ")
			path, body, _ := strings.Cut(rest, " ")
			asked[method+" "+patternOf(path)] = true
			status, text := webAs(t, s, client, method, path, body)
			var reply struct{ Code string }
			if status >= 400 {
				if err := json.Unmarshal([]byte(text), &reply); err != nil {
					t.Fatalf("%s: %s: %v", client, request, err)
				}
			}
			if reply.Code != answers[want] {
				t.Errorf("%s: %s\n got %d %s, want %q", client, request, status, short(text), answers[want])
			}
		}
	}
	_, text := webAs(t, s, "admin", "GET", "/openapi.json", "")
	var document struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method := range methods {
			if route := strings.ToUpper(method) + " " + path; !asked[route] {
				t.Errorf("the table has no row for %s", route)
			}
		}
	}
}

// patternOf returns the path as the table of routes has it.
func patternOf(path string) string {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	for i, part := range parts {
		switch {
		case i < 3 || parts[i-1] == "tasks" && len(part) < 26 || part == "beat":
		case parts[i-1] == "tasks":
			parts[i] = "{task}"
		case parts[i-1] == "keys":
			parts[i] = "{id}"
		case parts[i-1] == "queues":
			parts[i] = "{queue}"
		case parts[i-1] == "workers":
			parts[i] = "{worker}"
		case parts[i-1] == "work":
			parts[i] = "{lease}"
		}
	}
	return strings.Join(parts, "/")
}

// webAs sends an HTTP request as a client, and returns the status and the beginning of the body.
func webAs(t *testing.T, s *stage, client, method, path, body string) (status int, text string) {
	t.Helper()
	return webByToken(t, s, tokenOf(client), method, path, body)
}

// webByToken is webAs with a token; "" sends none.
func webByToken(t *testing.T, s *stage, token, method, path, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" || method == http.MethodPut {
		r.Header.Set("Content-Type", "application/json")
	}
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := web.Do(r)
	for tries := 1; err != nil && tries < 5; tries++ { // this process was too slow to send its token in time
		r.Body = io.NopCloser(strings.NewReader(body))
		response, err = web.Do(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if strings.HasSuffix(path, "/events") && response.StatusCode == http.StatusOK { // it goes on
		return response.StatusCode, ""
	}
	whole, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(whole)
}

// askAs sends a line as a client and returns the reply.
func askAs(t *testing.T, s *stage, client, line string) string {
	t.Helper()
	v := visit(t, s.addr)
	defer v.conn.Close()
	v.send(`{"id":"t","op":"auth","token":"` + tokenOf(client) + `"}` + "\n" + line + "\n")
	v.expect(`{"id":"t","status":"done",…`)
	reply, err := v.next()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestWhatAClientMayNotSeeIsAnsweredLikeWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	there, ghost := keep(t, kept, "token:admin"), ulid.Make().String()
	for _, format := range []string{
		`{"id":1,"op":"get","task":"%s"}`, `{"id":1,"op":"get","task":"%s","payload":true}`, `{"id":1,"op":"wait","task":"%s"}`, `{"id":1,"op":"watch","task":"%s"}`,
		`{"id":1,"op":"cancel","task":"%s"}`, `{"id":1,"op":"retry","task":"%s"}`,
	} {
		hidden, missing := askAs(t, s, "submitter", fmt.Sprintf(format, there)), askAs(t, s, "submitter", fmt.Sprintf(format, ghost))
		if want := strings.ReplaceAll(missing, ghost, there); hidden != want {
			t.Errorf("%s\n hidden:  %s\n missing: %s", format, hidden, want)
		}
	}
	if hidden, missing := askAs(t, s, "submitter", `{"id":1,"op":"pause","queue":"images"}`), askAs(t, s, "submitter", `{"id":1,"op":"pause","queue":"ghosts"}`); hidden != strings.ReplaceAll(missing, "ghosts", "images") {
		t.Errorf("pause: %s, and %s", hidden, missing)
	}
	for _, path := range []string{"GET ", "GET /events", "GET /payload", "GET /result", "GET /payload?presign=1", "POST /cancel", "POST /retry"} {
		method, end, _ := strings.Cut(path, " ")
		first, hidden := webAs(t, s, "submitter", method, "/v1/tasks/"+there+end, "")
		second, missing := webAs(t, s, "submitter", method, "/v1/tasks/"+ghost+end, "")
		if want := strings.ReplaceAll(missing, ghost, there); first != second || hidden != want || first != http.StatusNotFound {
			t.Errorf("%s\n hidden:  %d %s\n missing: %d %s", path, first, hidden, second, want)
		}
	}
}

func TestListsCountsAndBulkChangesHoldOnlyWhatTheClientMaySee(t *testing.T) {
	t.Parallel()
	s, kept := openRoles(t)
	for range 3 {
		keep(t, kept, "token:admin")
		keep(t, kept, "token:submitter")
		keep(t, kept, "")
	}
	askAs(t, s, "admin", `{"op":"enqueue","action":"upper","queue":"mail","delay":600}`)
	count := func(client, more string) int {
		var reply struct{ Result struct{ Tasks []any } }
		if err := json.Unmarshal([]byte(askAs(t, s, client, `{"id":1,"op":"list"`+more+`}`)), &reply); err != nil {
			t.Fatal(err)
		}
		return len(reply.Result.Tasks)
	}
	for _, test := range []struct {
		client, more string
		want         int
	}{
		{"viewer", "", 10},
		{"viewer", `,"owner":"token:admin"`, 4},
		{"submitter", "", 3},
		{"submitter", `,"limit":2`, 2},
		{"submitter", `,"owner":"token:submitter","queue":"images"`, 3},
		{"submitter", `,"owner":"token:admin"`, 0},
		{"submitter", `,"queue":"mail"`, 0},
		{"narrow", "", 1},
		{"narrow", `,"queue":"images"`, 0},
	} {
		if got := count(test.client, test.more); got != test.want {
			t.Errorf("%s lists %d tasks with %s, want %d", test.client, got, test.more, test.want)
		}
	}
	for client, want := range map[string]string{
		"submitter": `"queues":[]`, "narrow": `"queues":[]`, "viewer": `"queue":"images","paused":false,"scheduled":0,"queued":9`,
	} {
		if got := askAs(t, s, client, `{"op":"queues"}`); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", client, got, want)
		}
	}
	if got := askAs(t, s, "submitter", `{"op":"cancel","filter":{"queue":"images"}}`); !strings.Contains(got, `"matched":3,"changed":3`) {
		t.Errorf("a submitter cancels all its tasks: %s", got)
	}
	if got := askAs(t, s, "admin", `{"op":"cancel","filter":{"owner":"token:admin","queue":"images"}}`); !strings.Contains(got, `"matched":3,"changed":3`) {
		t.Errorf("the tasks of an owner are cancelled: %s", got)
	}
	if got := askAs(t, s, "worker", `{"op":"info"}`); !strings.Contains(got, `"upper"`) {
		t.Errorf("info lists no actions to a worker of every action: %s", got)
	}
	if got := askAs(t, s, "narrow", `{"op":"info"}`); !strings.Contains(got, `"actions":["upper"]`) {
		t.Errorf("info lists actions to a client that may not use them: %s", got)
	}
}

func TestAKeyOfSomebodyElsesTaskGivesNothingAway(t *testing.T) {
	t.Parallel()
	s, _ := openRoles(t)
	const line = `{"id":1,"op":"enqueue","action":"upper","queue":"mail","delay":600,"key":"k","payload":%q}`
	first := askAs(t, s, "admin", fmt.Sprintf(line, "a"))
	var accepted struct{ Task string }
	if err := json.Unmarshal([]byte(first), &accepted); err != nil || accepted.Task == "" {
		t.Fatal(first, err)
	}
	for _, payload := range []string{"a", "b"} {
		got := askAs(t, s, "submitter", fmt.Sprintf(line, payload))
		if want := `{"id":1,"status":"error","code":"key_conflict","error":"another task has the key","field":"key"}`; got != want {
			t.Errorf("payload %s: %s, want %s", payload, got, want)
		}
		status, text := webAs(t, s, "submitter", "POST", "/v1/tasks", fmt.Sprintf(line, payload))
		if status != http.StatusConflict || strings.Contains(text, accepted.Task) {
			t.Errorf("payload %s: %d %s", payload, status, text)
		}
	}
	if got := askAs(t, s, "narrow", fmt.Sprintf(line, "a")); !strings.Contains(got, accepted.Task) || !strings.Contains(got, `"duplicate":true`) {
		t.Errorf("a client that may see the task: %s", got)
	}
	if got := askAs(t, s, "admin", fmt.Sprintf(`{"op":"get","task":%q}`, accepted.Task)); !strings.Contains(got, `"owner":"token:admin"`) {
		t.Errorf("the record does not show its owner: %s", got)
	}
}

func TestTheNextTokenOfAConnectionReplacesTheFormer(t *testing.T) {
	t.Parallel()
	s, _ := openRoles(t)
	v := visit(t, s.addr)
	say := func(client string) string {
		return `{"id":"t","op":"auth","token":"` + tokenOf(client) + `"}` + "\n"
	}
	v.send(say("worker") + `{"id":"w","op":"work","actions":["ghost"]}` + "\n")
	v.expect(`{"id":"t","status":"done",…"scopes":["work:*"]}}`)
	v.expect(`{"id":"w","status":"ready",…`)
	v.send(say("worker"))
	v.expect(`{"id":"t","status":"done",…`)
	v.send(`{"id":2,"op":"slots","work":"w","slots":2}` + "\n" + `{"id":3,"op":"run","action":"upper"}` + "\n")
	v.expect(`{"id":3,"status":"error","code":"forbidden",…`)
	v.send(say("viewer"))
	v.expect(`{"id":"t","status":"done",…"scopes":["see:*"]}}`)
	v.expect(`{"id":"w","status":"error","code":"forbidden",…`) // the new client is no worker
	v.send(`{"id":4,"op":"leave","work":"w"}` + "\n")
	v.expect(`{"id":4,"status":"error","code":"forbidden",…`)
}
