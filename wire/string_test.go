package wire

import (
	"encoding/json"
	"testing"

	"github.com/posta-tasks/posta/task"
)

// FuzzAppendString holds our writer of strings to the standard library's reader and writer.
func FuzzAppendString(f *testing.F) {
	for _, text := range []string{"", "hola", "\"\\\n\x00\x7f", "é😀\u2028", "\xff\xed\xa0\x80", "\ufffd"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ours := task.AppendString(nil, text)
		if err := Valid(ours); err != nil {
			t.Fatalf("%q becomes %s: %v", text, ours, err)
		}
		theirs, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var back, theirBack string
		if err := json.Unmarshal(ours, &back); err != nil {
			t.Fatalf("%s: %v", ours, err)
		}
		if err := json.Unmarshal(theirs, &theirBack); err != nil || back != theirBack {
			t.Fatalf("%q is read back as %q, theirs as %q (%v)", text, back, theirBack, err)
		}
		if got := string(unescape(ours)); got != back {
			t.Fatalf("%s is unescaped to %q, want %q", ours, got, back)
		}
		if got := string(unescape(theirs)); got != back {
			t.Fatalf("%s is unescaped to %q, want %q", theirs, got, back)
		}
	})
}

// FuzzUnescape reads strings with every kind of escape as the standard library does.
func FuzzUnescape(f *testing.F) {
	for _, raw := range []string{`""`, `"a\u0041\n"`, `"\ud83d\ude00\/\b\f\r\t\"\\"`, `"\u0000\uffff"`, `"é"`} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 || raw[0] != '"' || raw[len(raw)-1] != '"' || Valid(raw) != nil {
			return
		}
		var want string
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if got := string(unescape(raw)); got != want {
			t.Fatalf("%s is unescaped to %q, want %q", raw, got, want)
		}
	})
}
