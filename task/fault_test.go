package task

import (
	"strings"
	"testing"
)

func TestErrorsWithTheSameCauseHaveTheSameFault(t *testing.T) {
	t.Parallel()
	for want, texts := range map[string][]string{
		"":                           {"", "  "},
		"timeout after #ms":          {"timeout after 30ms", "timeout  after\n1,200.5ms", "timeout after -7ms"},
		"user # has no address":      {"user 42 has no address", "user \"ana \\\" x\" has no address", "user 'o' has no address", "user «é» has no address", "user ‘é’ has no address"},
		"no file # in #":             {"no file `a b` in \"/tmp\"", "no file “x” in 7"},
		"can't read it, isn't it #":  {"can't read it, isn't it 1"},
		"dial tcp # connection lost": {"dial tcp 10.0.0.1:5432 connection lost", "dial tcp 127.0.0.1:80 connection lost"},
		"request # was refused":      {"request req_8fK2jLmN was refused", "request 01JE4Z5Q8W3V9K2M7N6P0R1S2T was refused", "request 123e4567-e89b-42d3-a456-426614174000 was refused", "request 9f86d081884c7d659a2feaa0c55ad015 was refused", "request 7 was refused"},
		"utf# by sha# at node#":      {"utf-8 by sha256 at node7"},
		"internationalization":       {"internationalization"},
		"bad # byte":                 {"bad \xff byte", "bad 1 byte"},
	} {
		for _, text := range texts {
			if got := Cause(text); got != want {
				t.Errorf("the cause of %q is %q, want %q", text, got, want)
			}
			if got := Fault("a", Crashed, text); got != Fault("a", Crashed, texts[0]) || len(got) != 12 {
				t.Errorf("the fault of %q is %q", text, got)
			}
		}
	}
	if a := Fault("a", Crashed, "x"); a == Fault("b", Crashed, "x") || a == Fault("a", TimedOut, "x") || a == Fault("a", Crashed, "y") {
		t.Error("different faults have the same name")
	}
	long := strings.Repeat("é", 1000)
	if Cause(long+"1") != Cause(long+"x") {
		t.Error("the end of a long text counts")
	}
}
