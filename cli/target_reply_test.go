package cli

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// TestTheQuickLookAtAReplyAgreesWithTheWholeOne compares succeeded with readReply on
// replies as nodes write them.
func TestTheQuickLookAtAReplyAgreesWithTheWholeOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) []byte { return task.AppendString(nil, s) }),
			rapid.SampledFrom([][]byte{
				nil, []byte("1"), []byte("-2.5e3"), []byte("12345678901234567890"), []byte(`"\\"`), []byte(`"\""`),
				[]byte(`",\"status\":\"done\",\"result\":{\"ok\":true"`),
			}),
		).Draw(t, "id")
		line := rapid.SampledFrom([][]byte{
			wire.AppendDone(nil, id, []byte(`{"ok":true,"data":"x"}`)),
			wire.AppendDone(nil, id, []byte(`{"ok":true}`)),
			wire.AppendDone(nil, id, []byte(`{"ok":false,"error":"x"}`)),
			wire.AppendError(nil, id, task.Refuse(task.Overloaded, "x")),
			wire.AppendGoaway(nil, task.Draining, 0),
		}).Draw(t, "line")
		r, err := readReply(line)
		if err != nil {
			t.Fatal(err)
		}
		raw, ok := succeeded(line)
		if ok != (r.Fault() == "") {
			t.Fatalf("%s: succeeded says %v, fault says %q", line, ok, r.Fault())
		}
		if ok && string(raw) != string(r.ID) {
			t.Fatalf("%s: id %s, want %s", line, raw, r.ID)
		}
	})
}

func TestTheQuickLookTakesAnyBytes(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "{", `{"id":`, `{"id":"`, `{"id":"a\`, `{"id":"a\"`, `{"id":1`, `{"id":,`, "hola\n"} {
		if _, ok := succeeded([]byte(line)); ok {
			t.Errorf("%q is taken for a success", line)
		}
	}
}

func TestAFaultSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`{"id":1,"status":"done","result":{"ok":true}}`:                                        "",
		`{"id":1,"status":"queued","task":"01JE"}`:                                             "",
		`{"id":1,"status":"done","result":{"ok":false,"error":"unknown action x"}}`:            "unknown action x",
		`{"id":1,"status":"done","result":7}`:                                                  "the result is not an object with ok",
		`{"id":1,"status":"error","code":"invalid_json","error":"invalid json","detail":"at"}`: "invalid_json: invalid json (at)",
	} {
		r, err := readReply([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Fault(); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
