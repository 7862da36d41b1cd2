package actions_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
)

// builtin finds one of the built-in actions.
func builtin(tb testing.TB, name string) *actions.Entry {
	tb.Helper()
	r, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		tb.Fatal(err)
	}
	entry := r.Lookup([]byte(name))
	if entry == nil {
		tb.Fatalf("there is no built-in action %q", name)
	}
	return entry
}

// answer runs a built-in action and gives the members of its result, or its
// error. It checks what every action owes: the members make a JSON object, and
// what dst held before is left alone.
func answer(tb testing.TB, ctx context.Context, name, payload string) (string, error) {
	tb.Helper()
	const before = `{"ok":true,`
	call := &actions.Call{Action: name, Payload: json.RawMessage(payload)}
	out, err := builtin(tb, name).Append(ctx, call, []byte(before))
	if string(call.Payload) != payload {
		tb.Errorf("%s changed its payload from %s to %s", name, payload, call.Payload)
	}
	members, kept := strings.CutPrefix(string(out), before)
	if !kept {
		tb.Fatalf("%s %s wrote over what was in dst: %s", name, payload, out)
	}
	if err != nil {
		if members != "" {
			tb.Errorf("%s %s failed, but left %q in dst", name, payload, members)
		}
		return "", err
	}
	if !json.Valid(append(out, '}')) {
		tb.Errorf("%s %s answers %s, which is no JSON", name, payload, out)
	}
	return members, nil
}

// wantAnswer checks the members of a result.
func wantAnswer(t *testing.T, name, payload, want string) {
	t.Helper()
	got, err := answer(t, t.Context(), name, payload)
	if err != nil {
		t.Fatalf("%s %s fails: %v", name, payload, err)
	}
	if got != want {
		t.Errorf("%s %s answers %s, want %s", name, payload, got, want)
	}
}

// wantRefusal checks that an action fails with an error that has all the words.
func wantRefusal(t *testing.T, name, payload string, words ...string) {
	t.Helper()
	got, err := answer(t, t.Context(), name, payload)
	if err == nil {
		t.Fatalf("%s %s answers %s, want an error", name, payload, got)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s %s fails with %q, which does not say %q", name, payload, err, word)
		}
	}
}

func TestBuiltinActionsAreEchoUpperSleepAndFib(t *testing.T) {
	t.Parallel()
	r, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.Names(), " "), "echo fib sleep upper"; got != want {
		t.Errorf("built-in actions are %s, want %s", got, want)
	}
}

// benchmark runs one built-in action again and again into the same buffer.
func benchmark(b *testing.B, name, payload string) {
	entry := builtin(b, name)
	call := &actions.Call{Action: name, Payload: json.RawMessage(payload)}
	buf := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := entry.Append(b.Context(), call, buf); err != nil {
			b.Fatal(err)
		}
	}
}
