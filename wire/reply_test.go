package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/posta-tasks/posta/task"
)

func TestReplyParsesWhatTheProtocolAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line string
		want       Reply
	}{
		{"done", `{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`,
			Reply{ID: []byte(`1`), Status: StatusDone, Result: []byte(`{"ok":true,"data":"HOLA"}`)}},
		{"long id", `{"id":12345678901234567890,"status":"done","result":{"ok":true}}`,
			Reply{ID: []byte(`12345678901234567890`), Status: StatusDone, Result: []byte(`{"ok":true}`)}},
		{"white space and order", " { \"result\" : {\"ok\" : true} ,\t\"status\":\"done\", \"id\":\"a b\" } ",
			Reply{ID: []byte(`"a b"`), Status: StatusDone, Result: []byte(`{"ok" : true}`)}},
		{"goaway", `{"id":null,"status":"goaway","code":"draining","retry_after":0}`,
			Reply{Status: StatusGoaway, Code: task.Draining}},
		{"refusal", `{"id":3,"status":"error","code":"overloaded","error":"a \"limit\"","detail":"d","field":"f","limit":"l","state":"s","retry_after":1.5}`,
			Reply{ID: []byte(`3`), Status: StatusError, Code: task.Overloaded, Error: `a "limit"`, Detail: "d",
				Field: "f", Limit: "l", State: "s", RetryAfter: 1500 * time.Millisecond}},
		{"queued", `{"id":7,"status":"queued","task":"01JE"}`,
			Reply{ID: []byte(`7`), Status: StatusQueued, Task: "01JE"}},
		{"members of a later version", `{"id":1,"status":"running","progress":{"percent":3},"new":[1,[2]]}`,
			Reply{ID: []byte(`1`), Status: StatusRunning}},
		{"a wait of years", `{"id":1,"status":"error","code":"overloaded","error":"e","retry_after":1e999}`,
			Reply{ID: []byte(`1`), Status: StatusError, Code: task.Overloaded, Error: "e", RetryAfter: 24 * time.Hour}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got Reply
			if err := got.Parse([]byte(test.line)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Reply{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReplyRefusesWhatIsNoReply(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, want string }{
		{``, "not a JSON object"},
		{`HTTP/1.1 400 Bad Request`, "not a JSON object"},
		{`[]`, "not a JSON object"},
		{`{"id":1,"status":"done"`, "not valid JSON"},
		{`{"id":1,"status":"done"}}`, "not valid JSON"},
		{`{"id":1}`, "no status"},
		{`{"id":1,"status":"great"}`, `unknown status "great"`},
		{`{"id":1,"status":4}`, "unknown status"},
		{`{"id":01,"status":"done","result":{"ok":true}}`, "not valid JSON"},
		{`{"id":1,"status":"done","result":{"ok":true}} {}`, "not valid JSON"},
		{`{"id":1,"status":"done","result":{"ok":true,"ok":true}}`, "not valid JSON"},
		{`{"id":[],"status":"done"}`, "id of the reply is not a string"},
		{`{"id":1,"status":"done","result":"x"}`, "the result of the reply is not an object"},
		{`{"id":1,"status":"error","code":5}`, "code of the reply is not a string"},
		{`{"id":1,"status":"error","retry_after":"1"}`, "retry_after of the reply is not a number"},
		{`{"id":1,"status":"error","retry_after":-1}`, "retry_after of the reply is not a number"},
	}
	for _, test := range tests {
		var reply Reply
		if err := reply.Parse([]byte(test.line)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.line, err, test.want)
		}
	}
}

func TestReplyForgetsTheLineBefore(t *testing.T) {
	t.Parallel()
	var reply Reply
	for _, line := range []string{
		`{"id":1,"status":"error","code":"c","error":"e","detail":"d","field":"f","limit":"l","task":"t","state":"s","retry_after":1}`,
		`{"status":"done"}`,
	} {
		if err := reply.Parse([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(Reply{Status: StatusDone}, reply, cmpopts.IgnoreUnexported(Reply{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReplyReadsBackEveryRefusal(t *testing.T) {
	t.Parallel()
	want := &task.Error{Code: task.Conflict, Message: "línea\n\"dos\"", Detail: "\x01", Field: "task",
		Limit: "3", Task: "01JE", State: "done", RetryAfter: 2 * time.Second}
	line := AppendError(nil, []byte(`"x"`), want)
	var reply Reply
	if err := reply.Parse(line[:len(line)-1]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, reply.Refusal()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReplyAllowsTheNestingOfAnEchoedPayload(t *testing.T) {
	t.Parallel()
	payload := strings.Repeat("[", task.MaxDepth-1) + strings.Repeat("]", task.MaxDepth-1)
	var request Request
	if err := request.Parse([]byte(`{"action":"echo","payload":`+payload+`}`), OpRun); err != nil {
		t.Fatal(err)
	}
	var reply Reply
	if err := reply.Parse([]byte(`{"id":1,"status":"done","result":{"ok":true,"data":` + payload + `}}`)); err != nil {
		t.Error(err)
	}
	if err := reply.Parse([]byte(`{"id":1,"status":"done","new":` + strings.Repeat("[", 100_000))); err == nil {
		t.Error("bottomless nesting was taken")
	}
}

func TestSucceededTellsTheFailureOfAnAction(t *testing.T) {
	t.Parallel()
	tests := []struct {
		result, message string
		ok              bool
	}{
		{`{"ok":true}`, "", true},
		{`{"ok":true,"data":1}`, "", true},
		{`{ "data":1, "ok" : true }`, "", true},
		{`{"ok":false,"error":"unknown action nope"}`, "unknown action nope", false},
		{`{"ok":false,"error":"a\tb"}`, "a\tb", false},
		{`{"ok":false,"error":{"a":1}}`, `{"a":1}`, false},
		{`{"ok":false}`, "", false},
		{`{}`, "", false},
		{`{"ok":tru`, "", false},
		{``, "the result is not an object", false},
	}
	for _, test := range tests {
		if ok, message := Succeeded([]byte(test.result)); ok != test.ok || message != test.message {
			t.Errorf("%s: got %v %q, want %v %q", test.result, ok, message, test.ok, test.message)
		}
	}
}

func TestReplyOfATaskNeedsNoAllocation(t *testing.T) {
	line := []byte(`{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
	var reply Reply
	allocations := testing.AllocsPerRun(100, func() {
		if err := reply.Parse(line); err != nil {
			t.Fatal(err)
		}
		if ok, _ := Succeeded(reply.Result); !ok {
			t.Fatal("not ok")
		}
	})
	if allocations != 0 {
		t.Errorf("got %v allocations, want none", allocations)
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`,
		`{"id":null,"status":"goaway","code":"idle","retry_after":0.5}`,
		`{"id":"\u00e9","status":"error","code":"invalid_json","error":"invalid json","detail":"\ud83d\ude00"}`,
		`{"id":1,"status":"done","result":{"ok":false,"error":"\"","error":3}}`,
		`{"id":1,"status":"queued","task":"a","result":{}}`, `{`, `{"id"`, `{"id":1,"status":"done","result":{"ok"`, "{}", " ", "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var reply Reply
		Succeeded(line)
		if reply.Parse(line) != nil {
			return
		}
		if !json.Valid(line) {
			t.Fatalf("took %q, which is no JSON", line)
		}
		slow := Reply{}
		if err := slow.Parse(append([]byte(" "), line...)); err != nil {
			t.Fatalf("took %q, but not with a space before it: %v", line, err)
		}
		if diff := cmp.Diff(slow, reply, cmpopts.IgnoreUnexported(Reply{})); diff != "" {
			t.Fatalf("%q reads differently with a space before it:\n%s", line, diff)
		}
		if reply.Result != nil && !json.Valid(reply.Result) {
			t.Fatalf("the result %q is no JSON", reply.Result)
		}
		Succeeded(reply.Result)
		again := AppendError(nil, reply.ID, reply.Refusal())
		var second Reply
		if err := second.Parse(again[:len(again)-1]); err != nil {
			t.Fatalf("the refusal %q of %q does not parse: %v", again, line, err)
		}
	})
}

func BenchmarkReplyParse(b *testing.B) {
	line := []byte(`{"id":123,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
	var reply Reply
	b.ReportAllocs()
	for b.Loop() {
		if err := reply.Parse(line); err != nil {
			b.Fatal(err)
		}
		if ok, _ := Succeeded(reply.Result); !ok {
			b.Fatal("not ok")
		}
	}
}
