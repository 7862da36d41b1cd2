package wire

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestRepliesAreRenderedKeyByKeyInTheirOrder(t *testing.T) {
	t.Parallel()
	full := &task.Error{
		Code: task.Conflict, Message: "the task is \"done\"", Detail: "d", Field: "f", Limit: "l", Task: "01J", State: "done", RetryAfter: 1500 * time.Millisecond,
	}
	cases := []struct {
		name, got, want string
	}{
		{"done", string(AppendDone(nil, []byte(`"a"`), []byte(`{"ok":true,"data":1}`))), `{"id":"a","status":"done","result":{"ok":true,"data":1}}` + "\n"},
		{"done without an id", string(AppendDone(nil, nil, []byte(`{"ok":false,"error":"x"}`))), `{"id":null,"status":"done","result":{"ok":false,"error":"x"}}` + "\n"},
		{"done with a long number", string(AppendDone(nil, []byte(`12345678901234567890`), []byte(`{"ok":true}`))), `{"id":12345678901234567890,"status":"done","result":{"ok":true}}` + "\n"},
		{"error", string(AppendError(nil, []byte(`7`), task.Refuse(task.UnknownOp, "unknown op %s", "x"))), `{"id":7,"status":"error","code":"unknown_op","error":"unknown op x"}` + "\n"},
		{"error in full", string(AppendError(nil, nil, full)), `{"id":null,"status":"error","code":"conflict","error":"the task is \"done\"","detail":"d","field":"f","limit":"l","task":"01J","state":"done","retry_after":1.5}` + "\n"},
		{"error of invalid text", string(AppendError(nil, nil, &task.Error{Code: task.Internal, Message: "a\nb\xff"})), `{"id":null,"status":"error","code":"internal","error":"a\nb` + "\ufffd" + `"}` + "\n"},
		{"goaway", string(AppendGoaway(nil, task.Draining, 0)), `{"id":null,"status":"goaway","code":"draining","retry_after":0}` + "\n"},
		{"goaway for a while", string(AppendGoaway(nil, "idle", time.Second)), `{"id":null,"status":"goaway","code":"idle","retry_after":1}` + "\n"},
		{"appended", string(AppendDone([]byte("before\n"), []byte("1"), []byte(`{"ok":true}`))), "before\n" + `{"id":1,"status":"done","result":{"ok":true}}` + "\n"},
	}
	for _, c := range cases {
		if c.got != c.want {
			t.Errorf("%s is\n%s want\n%s", c.name, c.got, c.want)
		}
		var reply Reply
		last := c.got[len("before\n")*btoi(c.name == "appended"):]
		if err := reply.Parse([]byte(last[:len(last)-1])); err != nil || !json.Valid([]byte(last)) {
			t.Errorf("%s is no reply: %v", c.name, err)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// upperLine is the line of the benchmarks, as clients send it.
const upperLine = `{"id":1,"action":"upper","payload":"hola"}`

func TestTheHotPathAllocatesNothing(t *testing.T) {
	var r Request
	line, result := []byte(upperLine), []byte(`{"ok":true,"data":"HOLA"}`)
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		if r.Parse(line, OpRun) != nil || r.Validate() != nil {
			t.Fatal("the line is refused")
		}
		out = AppendDone(out[:0], r.ID, result)
	}); n != 0 {
		t.Errorf("%g allocations a line, want none", n)
	}
}

func BenchmarkParseUpper(b *testing.B) {
	var r Request
	line := []byte(upperLine)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if r.Parse(line, OpRun) != nil || r.Validate() != nil {
			b.Fatal("the line is refused")
		}
	}
}

func BenchmarkParseLargePayload(b *testing.B) {
	var r Request
	line := []byte(`{"id":1,"action":"echo","payload":` + bigObject(2000, "last") + `}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if r.Parse(line, OpRun) != nil || r.Validate() != nil {
			b.Fatal("the line is refused")
		}
	}
}

func BenchmarkAppendDone(b *testing.B) {
	id, result := []byte("1"), []byte(`{"ok":true,"data":"HOLA"}`)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendDone(out[:0], id, result)
	}
}

func BenchmarkAppendError(b *testing.B) {
	refusal := task.RefuseField(task.UnknownField, "prio", "unknown field prio")
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendError(out[:0], []byte("1"), refusal)
	}
}
