package client

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// TestTheServerParsesTheValuesThatTheClientWrote writes lines with random values and reads
// them with the parser of package wire.
func TestTheServerParsesTheValuesThatTheClientWrote(t *testing.T) {
	t.Parallel()
	s := &Client{cfg: Config{LineBytes: 1 << 20}}
	rapid.Check(t, func(t *rapid.T) {
		letter := rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) })
		sign := rapid.Rune().Filter(func(r rune) bool { return r != 0 })
		action := rapid.StringOfN(letter, 1, 30, 120).Draw(t, "action")
		key := rapid.StringOfN(sign, 0, 30, 200).Draw(t, "key")
		attempts := rapid.IntRange(0, 1000).Draw(t, "attempts")
		delay := time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "delay"))
		at := time.Unix(rapid.Int64Range(1, 4e9).Draw(t, "at"), 0)
		labels := rapid.MapOf(rapid.StringOf(sign), rapid.StringOf(sign)).Draw(t, "labels")
		var k call
		k.begin(wire.OpEnqueue)
		k.text("action", action)
		k.text("key", key)
		k.number("max_attempts", attempts)
		if delay != 0 {
			k.seconds("delay", delay)
		} else {
			k.time("run_at", at)
		}
		k.labels("meta", labels)
		k.setTrue("wait")
		if err := k.payload([]byte("[1,\n 2]")); err != nil {
			t.Fatal(err)
		}
		if err := s.endCheckedLine(&k); err != nil {
			t.Fatalf("%s: %v", k.line, err)
		}
		var r wire.Request
		if refusal := r.Parse(bytes.TrimSuffix(k.line, []byte("\n")), wire.OpRun); refusal != nil {
			t.Fatal(refusal)
		}
		if refusal := r.Validate(); refusal != nil {
			t.Fatal(refusal)
		}
		o := &r.Options
		if string(r.Action) != action || o.Key != key || o.MaxAttempts != attempts || !o.Wait || string(r.Payload) != "[1,2]" ||
			(o.Delay-delay).Abs() > time.Microsecond || delay == 0 && !o.RunAt.Equal(at) || (o.Meta == nil) != (len(labels) == 0) {
			t.Errorf("%s was parsed as %+v", k.line, r)
		}
	})
}

func TestAnObjectIsWrittenAsAMember(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		inside func(k *call)
		want   string
	}{
		{func(*call) {}, `{"id":0,"op":"cancel","filter":{}`},
		{func(k *call) { k.text("queue", "a"); k.text("action", "b") }, `{"id":0,"op":"cancel","filter":{"queue":"a","action":"b"}`},
	} {
		var k call
		k.begin(wire.OpCancel)
		k.object("filter", func() { test.inside(&k) })
		if string(k.line) != test.want {
			t.Errorf("got %s, want %s", k.line, test.want)
		}
	}
}

func TestTheClientRefusesALineThatTheServerWouldRefuse(t *testing.T) {
	t.Parallel()
	s := &Client{cfg: Config{LineBytes: 100}}
	for _, test := range []struct {
		write func(k *call)
		code  task.Code
	}{
		{func(k *call) { k.text("key", strings.Repeat("x", 100)) }, task.LineTooLong},
		{func(k *call) { _ = k.payload([]byte(`{`)) }, task.InvalidJSON},
		{func(k *call) { _ = k.payload([]byte(`1,"action":"b"`)) }, task.InvalidJSON},
		{func(k *call) { k.number("max_attempts", -1) }, task.InvalidRequest},
		{func(k *call) { k.text("token", "x") }, task.UnknownField},
	} {
		var k call
		k.begin(wire.OpEnqueue)
		k.text("action", "a")
		test.write(&k)
		if err := s.endCheckedLine(&k); task.CodeOf(err) != test.code {
			t.Errorf("%s: got %v, want %s", k.line, err, test.code)
		}
	}
	if err := new(call).payload([]byte("{\n")); task.CodeOf(err) != task.InvalidJSON {
		t.Errorf("a payload that is not JSON: got %v", err)
	}
}

func TestACallIsSentAgainOnlyWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	refused := func(code task.Code, after time.Duration) error { return &task.Error{Code: code, RetryAfter: after} }
	for _, test := range []struct {
		name   string
		fate   fate
		err    error
		policy policy
		times  int // how many times it is sent again in a row; 100: no limit
	}{
		{"answered", answered, nil, policy{repeat: true, reads: true}, 0},
		{"never written", unsent, errors.New("x"), policy{}, 100},
		{"lost", lost, errors.New("x"), policy{}, 0},
		{"lost, may be repeated", lost, errors.New("x"), policy{repeat: true}, maxResends},
		{"lost, only reads", lost, errors.New("x"), policy{reads: true}, maxRereads},
		{"draining", answered, refused(task.Draining, 0), policy{}, 100},
		{"overloaded", answered, refused(task.Overloaded, time.Second), policy{}, 100},
		{"overloaded for good", answered, refused(task.Overloaded, 0), policy{}, 0},
		{"refused", answered, refused(task.Conflict, 0), policy{repeat: true, reads: true}, 0},
		{"draining, passed on", answered, refused(task.Draining, 0), policy{passedOn: true}, 0},
		{"overloaded, passed on", answered, refused(task.Overloaded, time.Second), policy{passedOn: true}, 0},
		{"given up", failed, ErrClosed, policy{repeat: true, reads: true}, 0},
	} {
		k := call{policy: test.policy}
		k.fate, k.err = test.fate, test.err
		times := 0
		for pause, again := k.retry(); again && times < 100; pause, again = k.retry() {
			times++
			if pause < 0 || test.name == "overloaded" && pause < time.Second || test.policy.reads && pause == 0 {
				t.Errorf("%s: the pause is %s", test.name, pause)
			}
		}
		if times != test.times {
			t.Errorf("%s: sent again %d times, want %d", test.name, times, test.times)
		}
	}
}

func TestOnlyCallsThatChangeSomethingHaveAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		k := call{policy: policy{reads: reads}}
		k.fate, k.err = lost, errors.New("x")
		_, lost := k.outcome()
		for _, err := range []error{lost, k.abandoned(context.Canceled, true), k.notResent(context.Canceled)} {
			if (task.CodeOf(err) == task.UnknownOutcome) == reads {
				t.Errorf("reads is %t: %v", reads, err)
			}
		}
		if err := k.abandoned(context.Canceled, false); task.CodeOf(err) == task.UnknownOutcome || !errors.Is(err, context.Canceled) {
			t.Errorf("never sent: %v", err)
		}
	}
}

func TestAFollowerKeepsALimitedNumberOfLines(t *testing.T) {
	t.Parallel()
	f := newFollower(shapeWatch, resends{})
	for range maxBufferedLines {
		f.received(nil)
	}
	if lines, settled, cut := f.take(); len(lines) != maxBufferedLines || settled || cut {
		t.Errorf("%d lines, settled is %t, overflowed is %t", len(lines), settled, cut)
	}
	for range maxBufferedLines + 2 {
		f.received(nil)
	}
	f.completed()
	if lines, settled, cut := f.take(); len(lines) != maxBufferedLines || !settled || !cut {
		t.Errorf("%d lines, settled is %t, overflowed is %t", len(lines), settled, cut)
	}
	f.received(nil)
	if lines, _, cut := f.take(); len(lines) != 0 || !cut {
		t.Errorf("%d lines after the overflow", len(lines))
	}
}
