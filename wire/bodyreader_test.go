package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// texts are JSON and almost JSON.
func texts() []string {
	return []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `12.5e-3`, `"a"`, ` { "a" : [ 1 , { "b" : null } ] } `, `[[],{},""]`,
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00ñ€😀\"", `1E+2`, "\t1\n", `{"a":{"b":[1,2,[3]]},"c":"d"}`,
		``, ` `, `{`, `[1`, `[1,]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{,}`, `[,]`, `01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `-a`,
		`tru`, `trux`, `nul`, `nulll`, `falsy`, `1 2`, `{} {}`, `[]]`, `{]`, `[}`, `"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`,
		`"\ud83d"`, `"\ude00"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`, "\"a\nb\"", "\"\x80\"", "\"\xc3\"", "\"\xc3(\"", "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"",
		"\xef\xbb\xbf{}", `"a" b`, `[1 2]`, `{"a" 1}`, `{"a":1 "b":2}`, `'a'`, `//`, "\x00",
		strings.Repeat("[", task.MaxDepth) + strings.Repeat("]", task.MaxDepth),
		strings.Repeat("[", task.MaxDepth+1) + strings.Repeat("]", task.MaxDepth+1),
	}
}

// check passes a text through a reader.
func check(body io.Reader) ([]byte, error) {
	var passed bytes.Buffer
	_, err := passed.ReadFrom(wire.NewBodyReader(body))
	return passed.Bytes(), err
}

func TestATextPassesWheneverTheLineProtocolTakesIt(t *testing.T) {
	t.Parallel()
	for _, text := range texts() {
		for name, body := range map[string]io.Reader{
			"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
			"with its end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			passed, err := check(body)
			if want := wire.Valid([]byte(text)); (err == nil) != (want == nil) {
				t.Errorf("%q %s: %v, want %v", text, name, err, want)
			}
			if err == nil && string(passed) != text {
				t.Errorf("%q %s comes out as %q", text, name, passed)
			}
			if err != nil && task.CodeOf(err) != task.InvalidJSON {
				t.Errorf("%q %s: %v has no code", text, name, err)
			}
		}
	}
}

func TestABodyThatBreaksOffIsNoSyntaxError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken off")
	if _, err := check(io.MultiReader(strings.NewReader(`[1`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzTheReaderAgreesWithTheLineProtocol(f *testing.F) {
	for _, text := range texts() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := check(bytes.NewReader(text))
		want := wire.Valid(text)
		if want != nil && strings.Contains(want.Error(), "duplicate key") {
			return // only the whole text would show it
		}
		if (err == nil) != (want == nil) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	})
}
