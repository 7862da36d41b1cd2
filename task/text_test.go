package task_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
)

func TestATextHoldsNoNULAndIsUTF8AndANameHoldsNoControlCharacter(t *testing.T) {
	t.Parallel()
	cases := []struct {
		text       string
		text1, nam bool // allowed as a text, as a name
	}{
		{"", true, true}, {"resize", true, true}, {"año €😀", true, true}, {"a b", true, true},
		{"\u202e", true, true}, // no control character; it is escaped where it is printed
		{"a\nb", true, false}, {"\x1b[2J", true, false}, {"a\x7f", true, false}, {"a\u0085", true, false}, {"\u009b", true, false},
		{"k\x00y", false, false}, {"\x00", false, false}, {"a\xff", false, false}, {"\xc3", false, false}, {"\xed\xa0\x80", false, false},
	}
	for _, c := range cases {
		for kind, refusal := range map[string]*task.Error{
			"text": task.CheckText("key", c.text), "name": task.CheckName("key", c.text), "bytes": task.CheckName("key", []byte(c.text)),
		} {
			allowed := c.nam
			if kind == "text" {
				allowed = c.text1
			}
			if (refusal == nil) != allowed {
				t.Errorf("%q as %s: %v", c.text, kind, refusal)
			}
			if refusal != nil && (refusal.Code != task.InvalidRequest || refusal.Field != "key" || !strings.HasPrefix(refusal.Message, "key ")) {
				t.Errorf("%q as %s: %+v does not name the field", c.text, kind, refusal)
			}
		}
		if clean := task.CleanText(c.text); task.CheckText("x", clean) != nil || c.text1 && clean != c.text {
			t.Errorf("%q becomes %q", c.text, clean)
		}
	}
	if clean := task.CleanText("a\x00b\xffc"); clean != "a\uFFFDb\uFFFDc" || !utf8.ValidString(clean) {
		t.Errorf("%q", clean)
	}
}

func TestAQueueIsNoPathSegmentThatMeansAnother(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"default", "...", ".a", "a.", strings.Repeat("q", task.MaxQueue)} {
		if refusal := task.CheckQueue(name); refusal != nil {
			t.Errorf("%q: %v", name, refusal)
		}
	}
	for _, name := range []string{"", ".", "..", "A", "a b", "a/b", "a\x00", "ñ", "*", "\xff", strings.Repeat("q", task.MaxQueue+1)} {
		if refusal := task.CheckQueue(name); refusal == nil || refusal.Code != task.InvalidRequest || refusal.Field != "queue" {
			t.Errorf("%q: %v", name, refusal)
		}
	}
}

func TestAStringIsWrittenSoThatEveryReaderUnderstandsIt(t *testing.T) {
	t.Parallel()
	cases := []struct{ text, want string }{
		{``, `""`}, {`a`, `"a"`}, {`"\`, `"\"\\"`}, {"a\nb", `"a\nb"`}, {"\r\t\b", `"\r\t\u0008"`}, {"\x00\x1f\x7f", `"\u0000\u001f\u007f"`},
		{"é😀", `"é😀"`}, {"\xff\xc3", "\"\ufffd\ufffd\""}, {"\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""}, {"</script>&", `"</script>&"`}, {"a\xe2\x82", "\"a\ufffd\ufffd\""},
	}
	for _, c := range cases {
		if got := string(task.AppendString(nil, c.text)); got != c.want {
			t.Errorf("%q becomes %s, want %s", c.text, got, c.want)
		}
	}
	if got := string(task.AppendString([]byte("x:"), "y")); got != `x:"y"` {
		t.Errorf("appended: %s", got)
	}
}
