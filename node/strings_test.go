package node_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// Rule 39: the doors refuse strings that could harm a store or a terminal, in every op and route.

// poison lists strings that no field accepts. Keys, labels and tokens refuse only the first.
var poison = []string{"k\x00y", "a\x1b[2Jb", "a\rb", "a\u009bb", "a\x7fb"}

// stringFields returns, for each op, lines with %s for a string, and the field that a refusal names.
// Lines whose name contains "text" have fields that accept control characters.
func stringFields() map[string][]struct{ kind, line, field string } {
	type list = []struct{ kind, line, field string }
	filters := list{
		{"name", `{"op":"OP","task":%s}`, "task"}, {"name", `{"op":"OP","filter":{"queue":%s}}`, "filter"}, {"name", `{"op":"OP","filter":{"action":%s}}`, "filter"},
		{"name", `{"op":"OP","filter":{"status":%s}}`, "filter"}, {"text", `{"op":"OP","filter":{"meta":{"k":%s}}}`, "filter"},
		{"text", `{"op":"OP","filter":{"meta":{%s:"v"}}}`, "filter"},
	}
	tasks := list{{"name", `{"op":"OP","task":%s}`, "task"}}
	return map[string]list{
		"run": {{"name", `{"action":%s}`, "action"}},
		"enqueue": {
			{"name", `{"op":"OP","action":%s}`, "action"}, {"name", `{"op":"OP","action":"echo","queue":%s}`, "queue"},
			{"text", `{"op":"OP","action":"echo","key":%s}`, "key"}, {"text", `{"op":"OP","action":"echo","meta":{"k":%s}}`, "meta"},
			{"text", `{"op":"OP","action":"echo","meta":{"k":"v",%s:"v"}}`, "meta"}, {"name", `{"op":"OP","action":"echo","priority":%s}`, "priority"},
			{"name", `{"op":"OP","action":"echo","run_at":%s}`, "run_at"}, {"name", `{"op":"OP","action":"echo","payload_blob":{"task":%s,"size":1,"sha256":"x"}}`, "payload_blob"},
		},
		"get": tasks, "wait": tasks, "watch": tasks, "cancel": filters, "retry": filters,
		"list": {
			{"name", `{"op":"OP","queue":%s}`, "queue"}, {"name", `{"op":"OP","action":%s}`, "action"}, {"name", `{"op":"OP","status":%s}`, "status"},
			{"text", `{"op":"OP","meta":{"k":%s}}`, "meta"}, {"text", `{"op":"OP","meta":{%s:"v"}}`, "meta"}, {"name", `{"op":"OP","cursor":%s}`, "cursor"},
		},
		"pause": {{"name", `{"op":"OP","queue":%s}`, "queue"}}, "resume": {{"name", `{"op":"OP","queue":%s}`, "queue"}},
	}
}

func TestTheDoorsRefuseStringsThatCouldHarmAStoreOrATerminal(t *testing.T) {
	t.Parallel()
	addr := openStage(t, node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}}).addr
	doors := map[string]conformer{"lines": &lineConformer{visit(t, addr)}, "HTTP": &httpConformer{addr}, "WebSocket": &socketConformer{browse(t, addr)}}
	for op, fields := range stringFields() {
		for _, field := range fields {
			bad := poison
			if field.kind == "text" {
				bad = poison[:1]
			}
			for _, text := range bad {
				line := fmt.Sprintf(strings.ReplaceAll(field.line, "OP", op), marshal(t, text))
				for name, door := range doors {
					var asked map[string]any
					if err := json.Unmarshal([]byte(line), &asked); err != nil {
						t.Fatal(err)
					}
					answers := door.ask(t, asked)
					var reply struct{ Code, Field string }
					if err := json.Unmarshal([]byte(answers[0]), &reply); err != nil {
						t.Fatal(err)
					}
					if len(answers) != 1 || reply.Code != "invalid_request" || reply.Field != field.field {
						t.Errorf("%s: %s: %s", name, line, answers)
					}
				}
			}
		}
	}
	for _, about := range []string{`{"op":"list"}`, `{"op":"queues"}`} {
		if stored := converse(t, doors["lines"], []string{about}); !strings.Contains(stored, `":[]`) {
			t.Errorf("a task was stored: %s", stored)
		}
	}
	for line, field := range map[string]string{
		`{"id":1,"op":"pause","queue":"."}`: "queue", `{"id":1,"op":"resume","queue":".."}`: "queue",
		`{"id":1,"op":"enqueue","action":"echo","queue":".."}`: "queue", `{"id":1,"op":"cancel","filter":{"queue":"."}}`: "filter",
	} {
		if stored := converse(t, doors["lines"], []string{line}); !strings.Contains(stored, `"code":"invalid_request"`) || !strings.Contains(stored, `"field":"`+field+`"`) {
			t.Errorf("%s: %s", line, stored)
		}
	}
}

// Percent-encoded parts of a URL and header values may contain any bytes.
func TestAURLOrAHeaderThatIsNotUTF8IsRefusedWithItsField(t *testing.T) {
	t.Parallel()
	addr := openStage(t, node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}}).addr
	body := func(kind, text string) string {
		return fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(text), text)
	}
	const echo = `{"action":"echo"}`
	cases := []struct{ request, field string }{
		{"GET /v1/tasks/%ff", "task"}, {"GET /v1/tasks/a%00b", "task"}, {"GET /v1/tasks/%C2%9B", "task"}, {"GET /v1/tasks/%ff?wait=1", "task"},
		{"GET /v1/tasks/%ff?payload=true", "task"}, {"GET /v1/tasks/%ff/events", "task"}, {"GET /v1/tasks/%1b/payload", "task"},
		{"GET /v1/tasks/%ff/payload?presign=1", "task"}, {"GET /v1/tasks/%ff/result", "task"}, {"GET /v1/tasks/a%00/result", "task"},
		{"POST /v1/tasks/%ff/cancel", "task"}, {"POST /v1/tasks/%00/retry", "task"}, {"POST /v1/queues/%ff/pause", "queue"},
		{"POST /v1/queues/a%00/resume", "queue"},
		{"GET /v1/tasks?queue=%ff", "queue"}, {"GET /v1/tasks?action=%ff", "action"}, {"GET /v1/tasks?action=a%00", "action"}, {"GET /v1/tasks?status=%ff", "status"},
		{"GET /v1/tasks?cursor=%ff", "cursor"}, {"GET /v1/tasks?cursor=%00", "cursor"}, {"GET /v1/tasks?limit=%ff", "limit"}, {"GET /v1/tasks?meta.k=%ff", "meta"},
		{"GET /v1/tasks?meta.k=%00", "meta"}, {"GET /v1/tasks?meta.%ff=v", "meta"}, {"GET /v1/tasks?meta.%00=v", "meta"}, {"GET /v1/tasks/t?wait=%ff", "wait"},
		{"GET /v1/tasks/t?payload=%ff", "payload"}, {"GET /v1/tasks/t/events?after=%ff", "after"}, {"GET /v1/tasks/t/payload?presign=%ff", "presign"},
		{"POST /v1/tasks\nIdempotency-Key: a\xffb\r\n" + body("application/json", echo), "Idempotency-Key"},
		{"GET /v1/tasks/t/events\nLast-Event-ID: \xff\r\n\r\n", "after"},
		{"POST /v1/tasks\n" + body("application/x-ndjson", `{"action":"a\u0000"}`), "action"},
		{"POST /v1/tasks\n" + body("application/x-ndjson", `{"action":"a","key":"\u0000"}`), "key"},
	}
	for _, c := range cases {
		head, rest, given := strings.Cut(c.request, "\n")
		if !given {
			rest = "\r\n"
		}
		status, answer := rawHTTP(t, addr, head+" HTTP/1.1\r\nHost: "+addr+"\r\nConnection: close\r\n"+rest)
		var reply struct{ Code, Field string }
		_ = json.Unmarshal([]byte(answer), &reply)
		bulk := strings.Contains(rest, "ndjson")
		if status != http.StatusBadRequest && !bulk || reply.Code != "invalid_request" || reply.Field != c.field {
			t.Errorf("%q: %d %s", c.request, status, answer)
		}
	}
	for _, path := range []string{"GET /v1/%ff", "POST /v1/queues/%2e%2e/pause", "POST /v1/queues/%2e/resume"} {
		if status, answer := rawHTTP(t, addr, path+" HTTP/1.1\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n"); status != http.StatusNotFound || !json.Valid([]byte(answer)) {
			t.Errorf("%s, an unknown path: %d %q", path, status, answer)
		}
	}
}

// rawHTTP sends the bytes of a request and reads the response.
func rawHTTP(t *testing.T, addr, request string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestANameThatCouldHarmATerminalIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"n\x1b[2J", "n\x00", "n\xff", "n\n"} {
		if _, err := node.New(node.Config{Name: name, Listen: "127.0.0.1:0"}); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
