package wire

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/task"
)

// FuzzParse has a Request that has read other lines before read any line. Nothing may panic,
// what is read must be what the standard library reads, and when it is
// written again it must be read as the same request.
func FuzzParse(f *testing.F) {
	for _, line := range transcriptLines(f) {
		f.Add([]byte(line))
	}
	for field, values := range goodFields() {
		for _, value := range values {
			f.Add([]byte(enqueueWith(field, value)))
		}
	}
	f.Add([]byte(`{"op":"cancel","filter":{"meta":{"a":"b"}},"limit":10}`))
	f.Add([]byte(`{"\u0069d":"\ud83d\ude00","\u006fp":"get","task":"t","payload":true}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		var r Request
		_ = r.Parse([]byte(`{"id":9,"op":"enqueue","action":"a","key":"k","zz":[{"q":1}],"timeout":5`), OpRun)
		refusal := r.Parse(line, OpRun)
		if !bytes.Equal(line, before) {
			t.Fatal("the line was written to")
		}
		valid := Valid(line) == nil
		if isJSON := refusal == nil || refusal.Code != task.InvalidJSON; isJSON != valid {
			t.Fatalf("%q: Parse says %v, Valid %t", line, refusal, valid)
		}
		if refusal == nil {
			refusal = r.Validate()
		}
		checkRefusal(t, r.ID, refusal)
		if refusal != nil {
			return
		}
		checkMeaning(t, line, &r)
		checkAgain(t, &r)
	})
}

// checkRefusal wants a refusal to be a line that clients can read.
func checkRefusal(t *testing.T, id []byte, refusal *task.Error) {
	t.Helper()
	if refusal == nil {
		return
	}
	line := AppendError(nil, id, refusal)
	if len(line) > 4<<10 {
		t.Fatalf("a refusal of %d bytes", len(line))
	}
	var reply Reply
	if err := reply.Parse(line[:len(line)-1]); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if reply.Status != StatusError || reply.Code != refusal.Code || bytes.IndexByte(line, '\n') != len(line)-1 {
		t.Fatalf("%s does not say %v", line, refusal)
	}
}

// checkMeaning compares with what the standard library reads.
func checkMeaning(t *testing.T, line []byte, r *Request) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if want := members["id"]; !bytes.Equal(r.ID, want) {
		t.Fatalf("the id is %q, want %q", r.ID, want)
	}
	if want, given := members["payload"]; given && r.Op != OpGet && !bytes.Equal(r.Payload, want) {
		t.Fatalf("the payload is %q, want %q", r.Payload, want)
	}
	texts := map[string]string{"action": string(r.Action), "token": string(r.Token), "queue": r.Options.Queue, "key": r.Options.Key, "task": r.Options.Task, "cursor": r.Options.Cursor}
	for name, got := range texts {
		raw, given := members[name]
		if !given || name == "action" && r.Op == OpList {
			continue
		}
		var want string
		if err := json.Unmarshal(raw, &want); err != nil || got != want {
			t.Fatalf("%s is %q, want %s (%v)", name, got, raw, err)
		}
	}
}

// checkAgain writes the request as a line of its own and wants it to be read the same.
func checkAgain(t *testing.T, r *Request) {
	t.Helper()
	line := []byte{'{'}
	for f := range noField {
		if !r.has(f) {
			continue
		}
		if len(line) > 1 {
			line = append(line, ',')
		}
		line = task.AppendString(line, fieldTexts[f])
		line = append(append(line, ':'), r.raw(f)...)
	}
	line = append(line, '}')
	var again Request
	if err := again.Parse(line, OpRun); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if err := again.Validate(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if r.Op == OpRun {
		r.Options = Options{}
	}
	same := again.Op == r.Op && again.Timeout == r.Timeout && bytes.Equal(again.ID, r.ID) && bytes.Equal(again.Action, r.Action) &&
		bytes.Equal(again.Payload, r.Payload) && bytes.Equal(again.Token, r.Token)
	if diff := cmp.Diff(r.Options, again.Options); !same || diff != "" {
		t.Fatalf("%s is read differently\n%s", line, diff)
	}
}
