package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/task"
)

// read parses and validates a line as a door does.
func read(line string) (*Request, *task.Error) {
	var r Request
	if err := r.Parse([]byte(line), OpRun); err != nil {
		return &r, err
	}
	return &r, r.Validate()
}

func TestAnIDComesBackAsTheBytesThatWereSent(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		`1`, `0`, `-0`, `-1`, `1.0`, `1e5`, `1E+05`, `12345678901234567890`, `18446744073709551616`, `9007199254740993`, `0.1000000000000000055511151231257827`,
		strings.Repeat("9", 64), "-" + strings.Repeat("9", 63), `""`, `"a"`, `"\u0061"`, `"é"`, `"\""`, `"\ud83d\ude00"`, `null`,
		`"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("é", 64) + `"`, `"` + strings.Repeat(`\n`, 64) + `"`,
	} {
		for _, line := range []string{`{"id":` + id + `,"action":"a"}`, ` { "action" : "a" , "id" :  ` + id + `  } `} {
			r, err := read(line)
			if err != nil || string(r.ID) != id {
				t.Errorf("%s: the id is %s (%v)", line, r.ID, err)
			}
		}
	}
	if r, err := read(`{"action":"a"}`); err != nil || r.ID != nil {
		t.Errorf("without an id it is %q (%v)", r.ID, err)
	}
}

func TestAnIDOfAnotherKindIsRefusedAndNotEchoed(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		`true`, `false`, `[]`, `[1]`, `{}`, `{"id":1}`, strings.Repeat("9", 65), "-" + strings.Repeat("9", 64), `0.` + strings.Repeat("1", 63),
		`"` + strings.Repeat("x", 129) + `"`, `"` + strings.Repeat("é", 64) + `x"`, `"` + strings.Repeat(`\n`, 64) + `x"`,
	} {
		r, err := read(`{"id":` + id + `,"action":"a","op":"nope"}`)
		if err == nil || err.Code != task.InvalidRequest || err.Field != "id" || r.ID != nil {
			t.Errorf("id %s: %v, and the id is %q", id, err, r.ID)
		}
	}
}

func TestTheIDIsKnownWhateverElseIsWrong(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"id":7,"op":"nope"}`, `{"op":"nope","id":7}`, `{"op":5,"id":7}`, `{"id":7}`, `{"id":7,"action":5}`, `{"id":7,"what":1}`, `{"id":7,"op":"ping","action":"a"}`,
	} {
		if r, err := read(line); err == nil || string(r.ID) != "7" {
			t.Errorf("%s: the id is %q (%v)", line, r.ID, err)
		}
	}
	for _, line := range []string{`{"id":7`, `{"id":7}x`, `{"id":7,"id":7}`, `{"id":7,"a":"\ud800"}`, `[7]`, `7`, ``} {
		if r, err := read(line); err == nil || r.ID != nil {
			t.Errorf("%s: the id is %q (%v)", line, r.ID, err)
		}
	}
}

// TestTheFirstOfSeveralFaultsIsReported has lines with all faults from some point of
// the order of checks on: JSON, object, id, op, unknown fields, values.
func TestTheFirstOfSeveralFaultsIsReported(t *testing.T) {
	t.Parallel()
	cases := []struct {
		line  string
		code  task.Code
		field string
	}{
		{`{"id":[],"op":"nope","what":1,"action":5,"timeout":-1`, task.InvalidJSON, ""},
		{`{"id":[],"op":"nope","what":1,"action":5,"what":2}`, task.InvalidJSON, ""},
		{`["id","op"]`, task.InvalidRequest, ""},
		{`{"op":"nope","what":1,"action":5,"id":[]}`, task.InvalidRequest, "id"},
		{`{"what":1,"action":5,"id":1,"op":"nope"}`, task.UnknownOp, "op"},
		{`{"what":1,"action":5,"id":1,"op":5}`, task.InvalidRequest, "op"},
		{`{"action":5,"timeout":-1,"what":1}`, task.UnknownField, "what"},
		{`{"timeout":-1,"queue":"default"}`, task.UnknownField, "queue"},
		{`{"what":1,"ever":2,"queue":"q"}`, task.UnknownField, "what"},
		{`{"timeout":-1,"payload":1}`, task.InvalidRequest, "action"},
		{`{"timeout":-1,"action":5}`, task.InvalidRequest, "action"},
		{`{"timeout":-1,"action":"a"}`, task.InvalidRequest, "timeout"},
	}
	for _, c := range cases {
		_, err := read(c.line)
		if err == nil || err.Code != c.code || err.Field != c.field {
			t.Errorf("%s: %v (field %q), want %s (%q)", c.line, err, fieldOf(err), c.code, c.field)
		}
	}
}

func fieldOf(err *task.Error) string {
	if err == nil {
		return ""
	}
	return err.Field
}

func TestALineThatIsNoObjectIsJSONAllTheSame(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`1`, `"a"`, `null`, `true`, `[]`, `[{"action":"upper"}]`, ` 1 `} {
		if _, err := read(line); err == nil || err.Code != task.InvalidRequest || !strings.Contains(err.Message, "object") {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{``, ` `, `hello`, `{`, `}`, `"a`, `{}{}`, `[] []`, `{"a":1,}`} {
		_, err := read(line)
		if err == nil || err.Code != task.InvalidJSON || err.Message != "invalid json" || err.Detail == "" {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTheLineItselfCountsForItsDepthAndItsKeys(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return `{"action":"a","payload":` + nested(n, '[') + `}` }
	if _, err := read(deep(63)); err != nil {
		t.Errorf("a payload of depth 63 in a line: %v", err)
	}
	if _, err := read(deep(64)); err == nil || err.Code != task.InvalidJSON {
		t.Errorf("a payload of depth 64 in a line: %v", err)
	}
	if _, err := read(`{"what":` + nested(64, '{') + `}`); err == nil || err.Code != task.InvalidJSON {
		t.Errorf("an unknown field of depth 64 in a line: %v", err)
	}
	for _, line := range []string{
		`{"action":"a","action":"a"}`, `{"action":"a","\u0061ction":"a"}`, `{"id":1,"\u0069d":1}`, `{"what":1,"what":1}`, `{"what":1,"wh\u0061t":1}`,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"\u0061":11}`,
		`{"payload":{"a":1,"a":2}}`, `{"what":{"a":1,"a":2}}`, `{"what":1,"payload":{"x":[{"y":1}]},"timeout":1,"what":2}`, `{"":1,"":2}`,
	} {
		if _, err := read(line); err == nil || err.Code != task.InvalidJSON || !strings.Contains(err.Detail, "duplicate key") {
			t.Errorf("%s: %v", line, err)
		}
	}
	// Keys of a member are no keys of the line.
	if _, err := read(`{"action":"a","payload":{"action":1,"id":2,"what":{"what":3}}}`); err != nil {
		t.Error(err)
	}
	if _, err := read(`{"zzz":1,"payload":{"zzz":1},"yyy":{"zzz":2}}`); err == nil || err.Code != task.UnknownField || err.Field != "zzz" {
		t.Error(err)
	}
}

func TestKeysAreComparedExactlyAndEscapesAreNoDifference(t *testing.T) {
	t.Parallel()
	r, err := read(`{"\u0069d":1,"\u006fp":"\u0072un","act\u0069on":"up\u0070er","payload":"x","t\u0069meout":2.5}`)
	if err != nil || string(r.ID) != "1" || r.Op != OpRun || string(r.Action) != "upper" || string(r.Payload) != `"x"` || r.Timeout != 2500*time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
	for _, key := range []string{"Action", "ACTION", "action ", " action", "actiön", "a", "payload\u0000", "ID", "Op"} {
		line := `{"action":"a",` + string(task.AppendString(nil, key)) + `:1}`
		if _, err := read(line); err == nil || err.Code != task.UnknownField || err.Field != key {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestAnUnknownFieldIsNamedAndWhatTheOpHas(t *testing.T) {
	t.Parallel()
	_, err := read(`{"action":"a","prio":1}`)
	if want := "unknown field prio; op run has id, op, action, payload, timeout"; err == nil || err.Message != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = read(`{"id":1,"": 2}`)
	if err == nil || err.Code != task.UnknownField || !strings.Contains(err.Message, `""`) {
		t.Errorf("a key without a letter: %v", err)
	}
	long := strings.Repeat("é", 100)
	_, err = read(`{"` + long + `":1}`)
	if err == nil || len(err.Field) > 80 || !strings.HasPrefix(err.Field, "éé") || !strings.HasSuffix(err.Field, "é…") {
		t.Errorf("a long key: %v", err)
	}
	// An escaped key must still be there when others have been unescaped behind it.
	_, err = read(`{"\u0077hat":1,"\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061":2,"\u0062\u0062\u0062\u0062\u0062\u0062\u0062\u0062\u0062\u0062\u0062\u0062":{"\u0063":1}}`)
	if err == nil || err.Field != "what" {
		t.Errorf("an escaped key: %v", err)
	}
}

func TestEveryOpHasItsOwnFieldsAndNoOthers(t *testing.T) {
	t.Parallel()
	fieldsOf := map[string]string{
		"run":     "action payload timeout",
		"enqueue": "action payload payload_blob queue delay run_at expires priority timeout max_attempts key keep meta wait",
		"get":     "task payload", "wait": "task timeout", "watch": "task after", "cancel": "task filter limit", "retry": "task filter limit",
		"list": "queue action status meta limit cursor", "queues": "", "pause": "queue", "resume": "queue", "ping": "", "info": "", "auth": "token",
		"work": "actions queues slots worker version hold grace idempotent", "done": "lease data data_blob", "fail": "lease error retry retry_after",
		"release": "lease delay", "progress": "lease percent message", "slots": "work slots", "leave": "work",
	}
	every := "action payload payload_blob queue delay run_at expires priority timeout max_attempts key keep meta wait task after filter limit status cursor token " +
		"lease data data_blob error retry retry_after percent message work actions queues slots worker version hold grace idempotent"
	for name, own := range fieldsOf {
		op, ok := ParseOp([]byte(name))
		if !ok || op.String() != name {
			t.Errorf("op %s is read as %s (%t)", name, op, ok)
		}
		has := strings.Fields(own)
		for _, field := range strings.Fields(every) {
			_, err := read(fmt.Sprintf(`{"id":1,"op":%q,%q:null}`, name, field))
			refused := err != nil && err.Code == task.UnknownField && err.Field == field
			if known := slices.Contains(has, field); refused == known {
				t.Errorf("op %s with %s: %v", name, field, err)
			}
		}
	}
	if len(fieldsOf) != int(opCount) {
		t.Errorf("%d ops are tested, there are %d", len(fieldsOf), opCount)
	}
}

func TestAnOpSaysWhatItCannotDoWithout(t *testing.T) {
	t.Parallel()
	for op, field := range map[string]string{
		"run": "action", "enqueue": "action", "get": "task", "wait": "task", "watch": "task", "pause": "queue", "resume": "queue", "auth": "token",
		"cancel": "task", "retry": "task",
	} {
		_, err := read(fmt.Sprintf(`{"op":%q}`, op))
		if err == nil || err.Code != task.InvalidRequest || err.Field != field || !strings.Contains(err.Message, field) {
			t.Errorf("op %s without %s: %v", op, field, err)
		}
	}
	for _, op := range []string{"ping", "info", "queues", "list"} {
		if _, err := read(fmt.Sprintf(`{"op":%q}`, op)); err != nil {
			t.Errorf("op %s alone: %v", op, err)
		}
	}
}

func TestAnOpIsKnownByItsExactName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Run", "RUN", "run ", "runs", "ru", "\u0000", "nope"} {
		_, err := read(`{"action":"a","op":` + string(task.AppendString(nil, name)) + `}`)
		if err == nil || err.Code != task.UnknownOp || err.Field != "op" || !strings.Contains(err.Message, "run, enqueue, get, wait, watch") {
			t.Errorf("op %q: %v", name, err)
		}
	}
	for _, raw := range []string{`null`, `1`, `true`, `["run"]`, `{}`} {
		if _, err := read(`{"action":"a","op":` + raw + `}`); err == nil || err.Code != task.InvalidRequest || err.Field != "op" {
			t.Errorf("op %s: %v", raw, err)
		}
	}
}

func TestWithoutAnOpItIsTheFallback(t *testing.T) {
	t.Parallel()
	var r Request
	if err := r.Parse([]byte(`{"action":"a","queue":"q"}`), OpEnqueue); err != nil || r.Op != OpEnqueue || r.Validate() != nil {
		t.Errorf("%s, %v", r.Op, err)
	}
	if err := r.Parse([]byte(`{"action":"a","op":"run"}`), OpEnqueue); err != nil || r.Op != OpRun {
		t.Errorf("%s, %v", r.Op, err)
	}
}

// TestNothingOfALineIsLeftInTheNext uses one Request as a connection does.
func TestNothingOfALineIsLeftInTheNext(t *testing.T) {
	t.Parallel()
	lines := []string{
		`{"id":1,"op":"enqueue","action":"a","payload":[1],"timeout":3,"queue":"q","priority":"high","delay":1,"expires":2,"max_attempts":7,"key":"k","keep":9,"meta":{"a":"b"},"wait":true}`,
		`{"op":"list","status":"done","limit":5,"cursor":"c"}`, `{"op":"get","task":"t","payload":true}`, `{"op":"auth","token":"secret"}`,
		`{"op":"cancel","filter":{"queue":"q"},"limit":9}`, `{"op":"watch","task":"t","after":5}`,
	}
	plain := []string{
		`{"action":"b"}`, `{"op":"ping"}`, `{"op":"queues"}`, `{"op":"enqueue","action":"b"}`, `{"op":"list"}`, `{"op":"get","task":"u"}`, `{"op":"auth","token":""}`,
		`{"op":"enqueue","action":"b","key":"l"}`, `{"op":"watch","task":"u"}`, `{"op":"retry","task":"u"}`,
	}
	type view struct {
		ID, Action, Payload, Token string
		Op                         Op
		Timeout                    time.Duration
		Options                    Options
	}
	look := func(r *Request) view {
		return view{string(r.ID), string(r.Action), string(r.Payload), string(r.Token), r.Op, r.Timeout, r.Options}
	}
	for _, before := range lines {
		for _, after := range plain {
			var used Request
			for _, line := range []string{before, after} {
				if err := used.Parse([]byte(line), OpRun); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if err := used.Validate(); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			fresh, err := read(after)
			if err != nil {
				t.Fatal(err)
			}
			if fresh.Op == OpRun { // nobody looks at its options
				used.Options = Options{}
			}
			if diff := cmp.Diff(look(fresh), look(&used)); diff != "" {
				t.Errorf("after %s, %s is read as (-fresh +used)\n%s", before, after, diff)
			}
		}
	}
}

// Only id, payload and data may be null; every other field with a value that it cannot have is refused, and null is one.
func TestNullIsNoValueOfOtherFields(t *testing.T) {
	t.Parallel()
	for op := OpRun; int(op) < len(opFields); op++ {
		for f := range fieldCount {
			if opFields[op]&(1<<f) == 0 || f == fieldID || f == fieldPayload && op != OpGet || f == fieldData {
				continue
			}
			line := fmt.Sprintf(`{"op":%q`, op)
			if f == fieldOp {
				line = `{"action":"a"`
			}
			if op >= opCount { // a path says the op
				line = `{"queues":["a"]`
				if op == OpBeat {
					line = `{"lease_s":5`
				}
				if strings.Contains(line, firstField(1<<f)) {
					continue
				}
			}
			for g := range fieldCount {
				if opRequires[op]&(1<<g) != 0 && g != f && f != fieldOp {
					line += fmt.Sprintf(`,%q:%s`, firstField(1<<g), valueOf(g))
				}
			}
			line += fmt.Sprintf(`,%q:null}`, firstField(1<<f))
			fallback := OpRun
			if op >= opCount {
				fallback = op
			}
			var r Request
			err := r.Parse([]byte(line), fallback)
			if err == nil {
				err = r.Validate()
			}
			if err == nil || err.Code != task.InvalidRequest || err.Field != firstField(1<<f) {
				t.Errorf("%s: %v, want invalid_request of %s", line, err, firstField(1<<f))
			}
		}
	}
}

// valueOf returns a valid value of a field that an op needs.
func valueOf(f field) string {
	switch f {
	case fieldActions:
		return `["a"]`
	case fieldLease:
		return `"a.1"`
	case fieldLeases:
		return `["a.1"]`
	case fieldSlots:
		return "1"
	default:
		return `"a"`
	}
}
