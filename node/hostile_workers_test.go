package node_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// workerLines are the lines of a worker with everything that can be wrong with a field, and the codes that refuse them. LEASE
// is a lease that the worker holds, and OTHER one of a worker with another token.
func workerLines() map[string][]string {
	lines := map[string][]string{}
	const unknown = `"lease":"01JE0000000000000000000000.1"`
	for _, op := range []string{`"done"`, `"fail","error":"no"`, `"release"`, `"progress","percent":1`} {
		lines["forbidden or stale"] = append(lines["forbidden or stale"], `"op":`+op+`,"lease":"OTHER"`)
		lines["forbidden or stale"] = append(lines["forbidden or stale"], `"op":`+op+`,`+unknown) // stale: nobody looks for progress in the store
		for _, lease := range []string{`"01JE8Q"`, `"x.1"`, `"x.1."`, `"x.1.a.b"`, `"x.1./"`, `"."`, `""`, `1`, `true`, `null`, `["LEASE"]`, `{"lease":"LEASE"}`, `"LEASE0000000000"`, `"` + strings.Repeat("9", 500) + `.1"`} {
			lines["forbidden or invalid_request or stale"] = append(lines["forbidden or invalid_request or stale"], `"op":`+op+`,"lease":`+lease)
		}
		lines["invalid_request"] = append(lines["invalid_request"], `"op":`+op)
		lines["unknown_field"] = append(lines["unknown_field"], `"op":`+op+`,"lease":"LEASE","actions":["resize"]`)
	}
	for field, values := range map[string][]string{
		`"op":"done","lease":"LEASE","data_blob":`:               {`1`, `"x"`, `{}`, `[]`, `{"size":-1,"sha256":"x"}`},
		`"op":"fail","lease":"LEASE","error":`:                   {`1`, `{}`, `[]`, `true`},
		`"op":"fail","lease":"LEASE","error":"x","retry":`:       {`1`, `"true"`, `{}`},
		`"op":"fail","lease":"LEASE","error":"x","retry_after":`: {`-1`, `"1"`, `1e300`, `true`},
		`"op":"release","lease":"LEASE","delay":`:                {`-1`, `"1"`, `1e300`, `[]`},
		`"op":"progress","lease":"LEASE","percent":`:             {`"1"`, `{}`},
		`"op":"progress","lease":"LEASE","message":`:             {`1`, `{}`, `[]`},
		`"op":"slots","slots":1,"work":`:                         {`{}`, `[]`, `true`},
		`"op":"slots","work":"w","slots":`:                       {`-1`, `1025`, `1.5`, `"1"`, `1e300`, `[]`},
		`"op":"leave","work":`:                                   {`{}`, `[]`, `true`},
		`"op":"work","actions":`: {`[]`, `"resize"`, `[1]`, `[""]`, `{}`, `["` + strings.Repeat("a", 300) + `"]`,
			`["a"` + strings.Repeat(`,"a"`, 300) + `]`},
		`"op":"work","actions":["resize"],"slots":`:      {`0`, `-1`, `1025`, `"1"`, `1.5`, `[]`},
		`"op":"work","actions":["resize"],"queues":`:     {`"a"`, `[1]`, `[""]`, `{}`},
		`"op":"work","actions":["resize"],"worker":`:     {`1`, `[]`, `"` + strings.Repeat("a", 300) + `"`},
		`"op":"work","actions":["resize"],"version":`:    {`1`, `[]`, `"` + strings.Repeat("a", 300) + `"`},
		`"op":"work","actions":["resize"],"hold":`:       {`"LEASE"`, `[1]`, `{}`},
		`"op":"work","actions":["resize"],"grace":`:      {`-1`, `61`, `"1"`, `1e300`},
		`"op":"work","actions":["resize"],"idempotent":`: {`"resize"`, `[1]`, `{}`},
	} {
		for _, value := range values {
			lines["invalid_request"] = append(lines["invalid_request"], field+value)
		}
	}
	lines["invalid_request"] = append(lines["invalid_request"],
		`"op":"work"`, `"op":"fail","lease":"LEASE"`, `"op":"slots","work":"w"`, `"op":"slots","slots":1`, `"op":"leave"`)
	lines["not_found"] = append(lines["not_found"], `"op":"leave","work":"other"`, `"op":"slots","work":"other","slots":1`)
	return lines
}

// TestBadLinesOfAWorkerAreRefusedAndItsTaskGoesOn sends each of them on the connection of a worker that holds a task, then a
// flood of progress and an error of 10 MB. The task is the worker's until the end.
func TestBadLinesOfAWorkerAreRefusedAndItsTaskGoesOn(t *testing.T) {
	t.Parallel()
	config := withStore(store.NewMemory(store.MemoryConfig{}))
	config.Tokens = loadTokens(t, "a first-secret-token\nb second-secret-token\n")
	addr := openStage(t, config).addr
	hold := func(token, action string) (*visitor, line) {
		v := visit(t, addr)
		v.send(fmt.Sprintf(`{"op":"auth","token":%q}`+"\n"+`{"id":"w","op":"work","actions":[%q],"grace":0}`+"\n"+`{"id":2,"op":"enqueue","action":%q}`+"\n", token, action, action))
		push := v.read("running", "")
		v.read("queued", "2")
		return v, push
	}
	v, push := hold("first-secret-token", "resize")
	other, foreign := hold("second-secret-token", "crop")
	for codes, lines := range workerLines() {
		for i, text := range lines {
			text = strings.NewReplacer("LEASE", push.Lease, "OTHER", foreign.Lease).Replace(text)
			id := fmt.Sprintf(`"%s %d"`, codes, i)
			v.send(`{"id":` + id + `,` + text + "}\n")
			answer := v.answer(id)
			if !slices.Contains(strings.Split(codes, " or "), answer.Code) {
				t.Errorf("%.120s is answered %s %s: %s; want %s", text, answer.Status, answer.Code, answer.Error, codes)
			}
		}
	}
	v.send(strings.Repeat(fmt.Sprintf(`{"op":"progress","lease":%q,"percent":50,"message":"%s"}`+"\n", push.Lease, strings.Repeat("m", 200)), 5000))
	v.send(fmt.Sprintf(`{"id":3,"op":"done","lease":%q,"data":3}`+"\n", push.Lease))
	v.read("done", "3")
	v.send(fmt.Sprintf(`{"id":4,"op":"get","task":%q}`+"\n", push.Task))
	if record := v.read("done", "4"); string(record.Result) != `{"ok":true,"data":3}` || record.Attempt != 1 {
		t.Errorf("the task is recorded as %+v", record)
	}
	other.send(fmt.Sprintf(`{"id":3,"op":"fail","lease":%q,"error":"%s"}`+"\n", foreign.Lease, strings.Repeat("e", 10<<20)))
	if refusal := other.read("error", ""); refusal.Code != string(task.LineTooLong) {
		t.Errorf("an error of 10 MB is answered %+v", refusal)
	}
}

// answer returns the next line with an id.
func (v *visitor) answer(id string) line {
	v.tb.Helper()
	for {
		text, err := v.next()
		if err != nil {
			v.tb.Fatal(err)
		}
		var got line
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			v.tb.Fatal(err)
		}
		if string(got.ID) == id {
			return got
		}
	}
}
