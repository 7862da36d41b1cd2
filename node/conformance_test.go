package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// The tests of this file send the same requests in the same order to both doors, each of a node
// of its own, and compare the answers. A scenario is a list of lines of the line protocol. For
// HTTP, each line is translated to the request with the same meaning.

// conformer sends requests to one door. It returns all replies as lines without ids.
type conformer interface {
	ask(t *testing.T, line map[string]any) []string
}

// scenarios returns lists of lines by name. ID stands for the task of the latest enqueue, CURSOR
// for the latest cursor; "until it runs" waits until the task runs.
func scenarios() map[string][]string {
	return map[string][]string{
		"run": {
			`{"action":"upper","payload":"hola"}`, `{"action":"nope"}`, `{"action":"fib","payload":1e9}`, `{"payload":1}`, `{"action":7}`,
			`{"action":"echo","timeout":0}`, `{"action":"echo","nope":1}`,
		},
		"enqueue": {
			`{"op":"enqueue","action":"upper","payload":"hola"}`, `{"op":"wait","task":"ID"}`, `{"op":"get","task":"ID"}`, `{"op":"get","task":"ID","payload":true}`,
			`{"op":"enqueue","action":"fib","payload":"x","max_attempts":1,"meta":{"b":"2","a":"1"},"priority":"low","queue":"mail"}`, `{"op":"wait","task":"ID"}`,
			`{"op":"enqueue","action":"echo","delay":3600,"key":"k"}`, `{"op":"get","task":"ID"}`, `{"op":"wait","task":"ID","timeout":0.05}`, `{"op":"wait","task":"ID","timeout":0}`,
			`{"op":"enqueue","action":"nobody"}`,
		},
		"keys": {
			`{"op":"enqueue","action":"echo","payload":1,"key":"k"}`, `{"op":"wait","task":"ID"}`, `{"op":"enqueue","action":"echo","payload":1,"key":"k"}`,
			`{"op":"enqueue","action":"echo","payload":2,"key":"k"}`, `{"op":"enqueue","action":"echo","payload":1,"key":"k","queue":"other"}`,
		},
		"watch": {
			`{"op":"enqueue","action":"upper","payload":"hola"}`, `{"op":"wait","task":"ID"}`, `{"op":"watch","task":"ID"}`, `{"op":"watch","task":"ID","after":2}`, `{"op":"watch","task":"ID","after":9}`,
			`{"op":"enqueue","action":"fib","payload":"x","max_attempts":2}`, `{"op":"watch","task":"ID"}`, `{"op":"watch","task":"none"}`, `{"op":"watch","task":"ID","after":-1}`,
		},
		"cancel and retry": {
			`{"op":"enqueue","action":"echo","delay":3600}`, `{"op":"cancel","task":"ID"}`, `{"op":"cancel","task":"ID"}`, `{"op":"retry","task":"ID"}`, `{"op":"wait","task":"ID"}`, `{"op":"watch","task":"ID"}`,
			`{"op":"cancel","task":"ID"}`, `{"op":"retry","task":"none"}`, `{"op":"enqueue","action":"held"}`, `{"op":"until it runs","task":"ID"}`, `{"op":"retry","task":"ID"}`,
			`{"op":"cancel","task":"ID"}`, `{"op":"wait","task":"ID"}`, `{"op":"watch","task":"ID"}`,
		},
		"filters and lists": {
			`{"op":"pause","queue":"mail"}`, `{"op":"resume","queue":"mail"}`, `{"op":"queues"}`,
			`{"op":"enqueue","action":"echo","queue":"mail"}`, `{"op":"wait","task":"ID"}`, `{"op":"pause","queue":"mail"}`,
			`{"op":"enqueue","action":"echo","queue":"mail","meta":{"n":"1"}}`, `{"op":"enqueue","action":"echo","queue":"mail","meta":{"n":"2"}}`, `{"op":"enqueue","action":"echo","queue":"mail","priority":"high"}`,
			`{"op":"queues"}`, `{"op":"list"}`, `{"op":"list","queue":"mail","limit":2}`, `{"op":"list","queue":"mail","limit":2,"cursor":"CURSOR"}`, `{"op":"list","meta":{"n":"1"}}`,
			`{"op":"list","status":"done"}`, `{"op":"list","status":"gone"}`, `{"op":"list","limit":201}`, `{"op":"list","limit":"x"}`, `{"op":"list","queue":"Q"}`, `{"op":"list","nope":"1"}`,
			`{"op":"list","since":"2020-01-01T00:00:00+02:00","limit":1}`, `{"op":"list","until":"2020-01-01T00:00:00Z"}`, `{"op":"list","since":"soon"}`, `{"op":"list","until":""}`,
			`{"op":"cancel","filter":{"meta":{"n":"1"}}}`, `{"op":"cancel","filter":{"queue":"mail"},"limit":1}`, `{"op":"retry","filter":{"status":"cancelled"}}`,
			`{"op":"cancel","filter":{}}`, `{"op":"cancel","filter":{"QUEUE":"mail"}}`, `{"op":"cancel","limit":1}`, `{"op":"cancel","filter":{"status":"x"}}`,
			`{"op":"resume","queue":"mail"}`, `{"op":"resume","queue":"Q"}`, `{"op":"resume","queue":"mail"}`,
		},
		"large bodies": {
			`{"op":"enqueue","action":"echo","payload":"` + strings.Repeat("x", 70_000) + `"}`, `{"op":"wait","task":"ID"}`, `{"op":"get","task":"ID","payload":true}`, `{"op":"watch","task":"ID","after":3}`,
			`{"op":"enqueue","action":"upper","payload":"` + strings.Repeat("ŉ", 520_000) + `"}`, `{"op":"wait","task":"ID"}`, `{"op":"get","task":"ID","payload":true}`, `{"op":"list"}`,
			`{"op":"enqueue","action":"echo","payload_blob":{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":1,"sha256":"` + strings.Repeat("a", 64) + `"}}`,
		},
		"bad values": {
			`{"op":"get","task":"none"}`, `{"op":"wait","task":"none"}`, `{"op":"enqueue"}`, `{"op":"enqueue","action":"echo","priority":"urgent"}`, `{"op":"enqueue","action":"echo","delay":-1}`,
			`{"op":"enqueue","action":"echo","delay":1,"run_at":"2030-01-01T00:00:00Z"}`, `{"op":"enqueue","action":"echo","run_at":"soon"}`, `{"op":"enqueue","action":"echo","max_attempts":0}`,
			`{"op":"enqueue","action":"echo","timeout":3601}`, `{"op":"enqueue","action":"echo","key":""}`, `{"op":"enqueue","action":"echo","meta":{"a":1}}`, `{"op":"enqueue","action":"echo","keep":"x"}`,
			`{"op":"enqueue","action":"echo","queue":"a b"}`, `{"op":"enqueue","action":"echo","payload_blob":{"task":"x"}}`, `{"op":"enqueue","action":"echo","nope":1}`,
			`{"op":"enqueue","action":"echo","payload_blob":{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":1,"sha256":"` + strings.Repeat("a", 64) + `"}}`,
			`{"op":"enqueue","action":"echo","payload":"` + strings.Repeat("x", 70_000) + `"}`,
		},
	}
}

func TestBothDoorsGiveTheSameAnswers(t *testing.T) {
	t.Parallel()
	for name, lines := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doors := []conformer{
				&lineConformer{visit(t, conformanceStage(t, name).addr)}, &httpConformer{conformanceStage(t, name).addr},
				&socketConformer{browse(t, conformanceStage(t, name).addr)},
			}
			var told [3]string
			for i, door := range doors {
				told[i] = converse(t, door, lines)
			}
			for i, other := range []string{"HTTP", "a WebSocket"} {
				if diff := cmp.Diff(strings.Split(told[0], "\n"), strings.Split(told[i+1], "\n")); diff != "" {
					t.Errorf("the answers of lines (-) and %s (+) differ:\n%s", other, diff)
				}
			}
		})
	}
}

// conformanceStage returns a node with a store and, for large bodies, with blob storage.
func conformanceStage(t *testing.T, scenario string) *stage {
	t.Helper()
	kept := &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}
	if scenario == "large bodies" {
		dir, err := blob.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		kept.Blobs = dir
	}
	held := actions.New("held", func(ctx context.Context, _ *actions.Call) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	return openStage(t, node.Config{
		Durable: kept, Actions: append(actions.Builtin(), held),
	})
}

// Ids and times differ from node to node.
var (
	someID   = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}`)
	someTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	someRate = regexp.MustCompile(`"(oldest_s|rate_in|rate_out)":[0-9.]+`)
	cursorOf = regexp.MustCompile(`"cursor":"([^"]+)"`)
)

// converse sends lines to a door one by one, and returns the lines and the replies.
func converse(t *testing.T, door conformer, lines []string) string {
	t.Helper()
	var told strings.Builder
	id, cursor := "none", "none"
	for _, line := range lines {
		told.WriteString("→ " + short(line) + "\n")
		line = strings.NewReplacer("ID", id, "CURSOR", cursor).Replace(line)
		var asked map[string]any
		if err := json.Unmarshal([]byte(line), &asked); err != nil {
			t.Fatal(err)
		}
		if asked["op"] == "until it runs" {
			untilRunning(t, door, id)
			continue
		}
		for _, answer := range door.ask(t, asked) {
			if asked["op"] == "enqueue" && someID.MatchString(answer) {
				id = someID.FindString(answer)
			}
			if found := cursorOf.FindStringSubmatch(answer); found != nil {
				cursor = found[1]
			}
			told.WriteString("← " + canonical(t, answer) + "\n")
		}
	}
	return told.String()
}

// untilRunning polls a task until it runs.
func untilRunning(t *testing.T, door conformer, id string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		answer := door.ask(t, map[string]any{"op": "get", "task": id})
		if strings.Contains(answer[0], `"status":"running"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the task does not run: %s", answer)
		}
	}
}

// canonical makes answers comparable: it sorts keys and removes values that differ between nodes.
func canonical(t *testing.T, answer string) string {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal([]byte(answer), &tree); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	delete(tree, "id")
	if tree["code"] == "unknown_field" {
		delete(tree, "error") // each door names its own fields in it
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	text = someTime.ReplaceAll(someID.ReplaceAll(text, []byte("ID")), []byte("TIME"))
	return string(someRate.ReplaceAll(text, []byte(`"$1":0`)))
}

// lineConformer sends lines unchanged.
type lineConformer struct{ *visitor }

func (c *lineConformer) ask(t *testing.T, line map[string]any) []string {
	t.Helper()
	c.send(marshal(t, line) + "\n")
	return replies(t, line, c.next)
}

// socketConformer sends lines as WebSocket messages.
type socketConformer struct{ *page }

func (c *socketConformer) ask(t *testing.T, line map[string]any) []string {
	t.Helper()
	c.send(marshal(t, line))
	return replies(t, line, c.next)
}

// replies reads the reply to a line, or all replies to a watch.
func replies(t *testing.T, line map[string]any, next func() (string, error)) []string {
	t.Helper()
	var all []string
	for {
		one, err := next()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
		var reply struct {
			Status  string
			Retried bool // the end of an earlier generation
		}
		if err := json.Unmarshal([]byte(one), &reply); err != nil {
			t.Fatal(err)
		}
		isLast := strings.Contains("done failed cancelled error", reply.Status) && !reply.Retried
		if line["op"] != "watch" || isLast {
			return all
		}
	}
}

func marshal(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// httpConformer sends lines as HTTP requests.
type httpConformer struct{ addr string }

func (c *httpConformer) ask(t *testing.T, line map[string]any) []string {
	t.Helper()
	method, path, body := translate(t, line)
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Content-Type") == "text/event-stream" {
		return dataOf(t, response.Body)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Header.Get("Content-Type") == "application/problem+json" {
		return []string{asLine(t, text)}
	}
	if text := string(text); strings.HasPrefix(text, `{"ok":`) {
		return []string{`{"status":"done","result":` + text + `}`}
	}
	return []string{string(text)}
}

// translate returns the method, path and body of the HTTP request with the meaning of a line.
func translate(t *testing.T, line map[string]any) (method, path, body string) {
	t.Helper()
	id, _ := line["task"].(string)
	queue, _ := line["queue"].(string)
	at := "/v1/tasks/" + url.PathEscape(id)
	switch op, _ := line["op"].(string); op {
	case "":
		return "POST", "/v1/run", marshal(t, line)
	case "enqueue":
		return "POST", "/v1/tasks", marshal(t, line)
	case "get":
		return "GET", at + "?" + query(line, "payload", "payload"), ""
	case "wait":
		if line["timeout"] == nil {
			line["timeout"] = 60.0
		}
		return "GET", at + "?" + query(line, "timeout", "wait"), ""
	case "watch":
		return "GET", at + "/events?" + query(line, "after", "after"), ""
	case "cancel", "retry":
		if id == "" {
			return "POST", "/v1/tasks/" + op, marshal(t, line)
		}
		return "POST", at + "/" + op, ""
	case "list":
		return "GET", "/v1/tasks?" + query(line), ""
	case "queues":
		return "GET", "/v1/queues", ""
	default: // pause and resume
		return "POST", "/v1/queues/" + url.PathEscape(queue) + "/" + op, ""
	}
}

// query returns the members of a line, without op and task, as query parameters, with some of them renamed.
func query(line map[string]any, names ...string) string {
	parameters := url.Values{}
	for name, value := range line {
		if len(names) == 2 && name == names[0] {
			name = names[1]
		}
		labels, isMeta := value.(map[string]any)
		for label, text := range labels {
			parameters.Set("meta."+label, fmt.Sprint(text))
		}
		if name != "op" && name != "task" && !isMeta {
			parameters.Set(name, fmt.Sprint(value))
		}
	}
	return parameters.Encode()
}

// dataOf returns the data of all events of a stream.
func dataOf(t *testing.T, stream io.Reader) []string {
	t.Helper()
	var all []string
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			all = append(all, data)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// asLine returns the refusal of a problem document as a line.
func asLine(t *testing.T, text []byte) string {
	t.Helper()
	var problem map[string]any
	if err := json.Unmarshal(text, &problem); err != nil {
		t.Fatal(err)
	}
	detail, _ := problem["detail"].(string)
	problem["error"], problem["status"] = detail, "error"
	for _, own := range []string{"type", "title", "detail"} {
		delete(problem, own)
	}
	return marshal(t, problem)
}
