package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestValidTakesWhatIsOneJSONText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `10`, `0.5`, `1.25e3`, `1E+9`, `1e-09`, `-0.0e0`,
		`123456789012345678901234567890`, `1e999999`, `""`, `"a"`, `"\""`, `"\\\/\b\f\n\r\t"`, `"\u00e9"`,
		`"\ud83d\ude00"`, `"\uD83D\uDE00x"`, "\"\u00e9\U0001F600\"", "\"\x7f\"", "\"\u2028\ufeff\ufffd\uffff\"",
		"\"\\ufffe\"", `[]`, `[ ]`, `[1]`, `[1,2 , 3]`, `{}`, `{ }`, `{"a":1}`, `{ "a" : 1 , "b":[{}] }`,
		" \t\r\n1 \t\r\n", `{"a":{"a":{"a":1}},"A":2,"":3}`, `[{"a":1},{"a":1}]`, `{"a":1,"\u0062":2,"ab":3}`,
		`{"é":1,"e\u0301":2}`, // the same to a reader, not to a program
		bigObject(200, "k150x"), nested(64, '['), nested(64, '{'),
	} {
		if err := Valid([]byte(text)); err != nil {
			t.Errorf("%s: %v", brief(text), err)
		}
	}
}

func TestValidRefusesEverythingElseAndSaysWhere(t *testing.T) {
	t.Parallel()
	cases := []struct{ text, want string }{
		{``, "unexpected end at byte 1"},
		{`  `, "unexpected end at byte 3"},
		{`nul`, "invalid literal"},
		{`nulL`, "invalid literal"},
		{`True`, "unexpected character 'T' at byte 1"},
		{`NaN`, "unexpected character"},
		{`Infinity`, "unexpected character"},
		{`-Infinity`, "invalid number"},
		{`'a'`, "unexpected character"},
		{`undefined`, "unexpected character"},
		{"\ufeff{}", "unexpected character"},
		{"\x00", "unexpected character"},
		{"\v1", "unexpected character"},
		{"\u00a01", "unexpected character '\\u00a0' at byte 1"},
		{"[é]", "unexpected character 'é' at byte 2"},
		{"[😀]", "unexpected character '😀' at byte 2"},
		{"\xc3", "invalid UTF-8 at byte 1"},
		{"[\xff]", "invalid UTF-8 at byte 2"},
		// numbers
		{`-`, "invalid number"}, {`+1`, "unexpected character"}, {`.5`, "unexpected character"}, {`1.`, "invalid number"},
		{`1.e3`, "invalid number"}, {`1e`, "invalid number"}, {`1e+`, "invalid number"}, {`--1`, "invalid number"},
		{`01`, "unexpected data after the value at byte 2"}, {`-01`, "unexpected data"}, {`0x10`, "unexpected data"},
		{`1_000`, "unexpected data"}, {`1e5.5`, "unexpected data"}, {`[01]`, "',' or ']' expected"}, {"\u0661", "unexpected character"},
		// strings
		{`"`, "unexpected end in a string"}, {`"a`, "unexpected end in a string"}, {`"\`, "unexpected end in a string"},
		{`"\"`, "unexpected end in a string"}, {`"\x41"`, "invalid escape"}, {`"\'"`, "invalid escape"}, {`"\U0041"`, "invalid escape"},
		{`"\u12"`, "invalid \\u escape"}, {`"\u12G4"`, "invalid \\u escape"}, {`"\u"`, "invalid \\u escape"},
		{`"\u 041"`, "invalid \\u escape"}, {`"\u+041"`, "invalid \\u escape"},
		{"\"\t\"", "control character 0x09"}, {"\"\n\"", "control character 0x0a"}, {"\"\x00\"", "control character 0x00"},
		{"\"a\x1fb\"", "control character 0x1f in a string at byte 3"},
		// halves of surrogate pairs
		{`"\ud800"`, "lone surrogate"}, {`"\udc00"`, "lone surrogate"}, {`"\udfff\ud800"`, "lone surrogate"},
		{`"\ud800\ud800"`, "lone surrogate"}, {`"\ud83dx\ude00"`, "lone surrogate"}, {`"\ud83d\u0041"`, "lone surrogate"},
		{`"\ud83d\n"`, "lone surrogate"}, {`"\ud83d\ude0`, "lone surrogate"}, {`"\ud83d`, "lone surrogate"}, {`{"\udead":1}`, "lone surrogate"},
		// UTF-8
		{"\"\xff\"", "invalid UTF-8"}, {"\"\xc3\"", "invalid UTF-8"}, {"\"\xc0\x80\"", "invalid UTF-8"}, {"\"\xe0\x80\xaf\"", "invalid UTF-8"},
		{"\"\xed\xa0\x80\"", "invalid UTF-8"}, {"\"\xed\xbf\xbf\"", "invalid UTF-8"}, {"\"\xf4\x90\x80\x80\"", "invalid UTF-8"},
		{"\"\xf8\x88\x80\x80\x80\"", "invalid UTF-8"}, {"\"\x80\"", "invalid UTF-8"}, {"\"\xe2\x82", "invalid UTF-8"},
		{"{\"\xff\":1}", "invalid UTF-8"},
		// arrays and objects
		{`[`, "unexpected end"}, {`]`, "unexpected character"}, {`[1`, "unexpected end"}, {`[1,]`, "unexpected character ']'"}, {`[,1]`, "unexpected character"},
		{`[1 2]`, "',' or ']' expected"}, {`[1}`, "',' or ']' expected"}, {`{`, "key expected"}, {`{"a"`, "':' expected"}, {`{"a":`, "unexpected end"},
		{`{"a":1`, "unexpected end"}, {`{"a":1,}`, "key expected"}, {`{,}`, "key expected"}, {`{"a" 1}`, "':' expected"}, {`{a:1}`, "key expected"},
		{`{1:2}`, "key expected"}, {`{"a":1]`, "',' or '}' expected"}, {`{"a"::1}`, "unexpected character"}, {`{"a":1 "b":2}`, "',' or '}' expected"},
		{`{null:1}`, "key expected"},
		// what follows
		{`{} {}`, "unexpected data after the value at byte 4"}, {`{}x`, "unexpected data"}, {`1 2`, "unexpected data"}, {`{},`, "unexpected data"},
		{"{}\x00", "unexpected data"}, {`null//`, "unexpected data"}, {`/**/1`, "unexpected character"},
		// depth
		{nested(65, '['), "nesting deeper than 64"}, {nested(65, '{'), "nesting deeper than 64"}, {strings.Repeat("[", 1<<20), "nesting deeper than 64"},
		{strings.Repeat(`{"a":`, 1<<18), "nesting deeper than 64"},
	}
	for _, c := range cases {
		err := Valid([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", brief(c.text), err, c.want)
		}
	}
}

func TestAKeyMayComeOnceInAnObjectHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	duplicates := []string{
		`{"a":1,"a":1}`, `{"":1,"":2}`, `{"a":1,"\u0061":2}`, `{"\u0061":1,"a":2}`, `{"\u0061":1,"\u0061":2}`,
		`{"/":1,"\/":2}`, `{"\n":1,"\u000a":2}`, `{"\u000A":1,"\u000a":2}`, `{"😀":1,"\ud83d\ude00":2}`, `{"é":1,"\u00e9":2}`,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"a":8}`,            // as many as are compared in pairs
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"a":9}`,      // one more
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"\u0068":9}`, //
		`{"id":1,"x":{"y":{"z":1,"z":2}}}`, `[[[{"z":1,"z":2}]]]`,      // far inside
		`{"a":{"b":1},"c":[{"d":1}],"a":3}`,                                     // with others in between
		bigObject(200, "k150"), bigObject(200, `k15\u0030`), bigObject(9, "k0"), // sorted
	}
	for _, text := range duplicates {
		for _, text := range []string{text, `[` + text + `]`, `{"o":{"p":[` + text + `]}}`} {
			if err := Valid([]byte(text)); err == nil || !strings.Contains(err.Error(), "duplicate key") {
				t.Errorf("%s: %v", brief(text), err)
			}
		}
	}
}

func TestAHugeObjectCostsNoMoreThanItsLength(t *testing.T) {
	t.Parallel()
	// Pairwise comparison would take minutes; the test's own time limit notices.
	if err := Valid([]byte(bigObject(100_000, "last"))); err != nil {
		t.Error(err)
	}
	if err := Valid([]byte(bigObject(100_000, "k99999"))); err == nil {
		t.Error("the last key of many came twice")
	}
}

func brief(text string) string {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return fmt.Sprintf("%q", text)
}

func TestAScannerCanBeUsedAgainAfterAnyText(t *testing.T) {
	t.Parallel()
	var s scanner
	for _, text := range []string{`{"a":1,"\u0062":{"c":`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":2}}`, `[[[`, `"x"`, bigObject(20, "z"), `{"b":1}`} {
		s.reset([]byte(text))
		s.space()
		ok := s.value(0) && s.end()
		if want := Valid([]byte(text)) == nil; ok != want {
			t.Errorf("%s is %t to a scanner that was used before", brief(text), ok)
		}
	}
}

// FuzzValid holds the scanner to another strict one: they must take the same texts.
func FuzzValid(f *testing.F) {
	for _, line := range transcriptLines(f) {
		f.Add([]byte(line))
	}
	for _, text := range []string{bigObject(9, "k8"), `{"a":1,"\u0061":2}`, `"\ud83d\ude00"`, "\"\xed\xa0\x80\"", `[1e5,-0.0]`, nested(65, '['), " \t\r\n[] "} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		err := Valid(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the text was written to")
		}
		var where *syntaxError
		if err != nil && (!errors.As(err, &where) || where.offset < 0 || where.offset > len(text)) {
			t.Fatalf("%q: the error points outside: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "nesting deeper") {
			return
		}
		if theirs := jsontext.Value(text).IsValid(); (err == nil) != theirs {
			t.Fatalf("%q: we say %v, jsontext says %t", text, err, theirs)
		}
	})
}
