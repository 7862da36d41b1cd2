package call

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/posta-tasks/posta/client/link"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestALineIsReadAsItWasWritten writes lines of any values and has the protocol's parser
// read them.
func TestALineIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := NewSender(nil, 1<<20)
	rapid.Check(t, func(t *rapid.T) {
		letter := rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) })
		sign := rapid.Rune().Filter(func(r rune) bool { return r != 0 })
		action := rapid.StringOfN(letter, 1, 30, 120).Draw(t, "action")
		key := rapid.StringOfN(sign, 0, 30, 200).Draw(t, "key")
		attempts := rapid.IntRange(0, 1000).Draw(t, "attempts")
		delay := time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "delay"))
		at := time.Unix(rapid.Int64Range(1, 4e9).Draw(t, "at"), 0)
		labels := rapid.MapOf(rapid.StringOf(sign), rapid.StringOf(sign)).Draw(t, "labels")
		var k Call
		k.Begin(wire.OpEnqueue)
		k.Text("action", action)
		k.Text("key", key)
		k.Number("max_attempts", attempts)
		if delay != 0 {
			k.Seconds("delay", delay)
		} else {
			k.Time("run_at", at)
		}
		k.Labels("meta", labels)
		k.True("wait")
		if err := k.Payload([]byte("[1,\n 2]")); err != nil {
			t.Fatal(err)
		}
		if err := s.EndChecked(&k); err != nil {
			t.Fatalf("%s: %v", k.Line, err)
		}
		var r wire.Request
		if refusal := r.Parse(bytes.TrimSuffix(k.Line, []byte("\n")), wire.OpRun); refusal != nil {
			t.Fatal(refusal)
		}
		if refusal := r.Validate(); refusal != nil {
			t.Fatal(refusal)
		}
		o := &r.Options
		if string(r.Action) != action || o.Key != key || o.MaxAttempts != attempts || !o.Wait || string(r.Payload) != "[1,2]" ||
			(o.Delay-delay).Abs() > time.Microsecond || delay == 0 && !o.RunAt.Equal(at) || (o.Meta == nil) != (len(labels) == 0) {
			t.Errorf("%s was read as %+v", k.Line, r)
		}
	})
}

func TestAnObjectIsAMember(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		inside func(k *Call)
		want   string
	}{
		{func(*Call) {}, `{"id":0,"op":"cancel","filter":{}`},
		{func(k *Call) { k.Text("queue", "a"); k.Text("action", "b") }, `{"id":0,"op":"cancel","filter":{"queue":"a","action":"b"}`},
	} {
		var k Call
		k.Begin(wire.OpCancel)
		k.Object("filter", func() { test.inside(&k) })
		if string(k.Line) != test.want {
			t.Errorf("got %s, want %s", k.Line, test.want)
		}
	}
}

func TestALineThatTheServerWouldRefuseIsRefused(t *testing.T) {
	t.Parallel()
	s := NewSender(nil, 100)
	for _, test := range []struct {
		write func(k *Call)
		code  task.Code
	}{
		{func(k *Call) { k.Text("key", strings.Repeat("x", 100)) }, task.LineTooLong},
		{func(k *Call) { _ = k.Payload([]byte(`{`)) }, task.InvalidJSON},
		{func(k *Call) { _ = k.Payload([]byte(`1,"action":"b"`)) }, task.InvalidJSON},
		{func(k *Call) { k.Number("max_attempts", -1) }, task.InvalidRequest},
		{func(k *Call) { k.Text("token", "x") }, task.UnknownField},
	} {
		var k Call
		k.Begin(wire.OpEnqueue)
		k.Text("action", "a")
		test.write(&k)
		if err := s.EndChecked(&k); task.CodeOf(err) != test.code {
			t.Errorf("%s: got %v, want %s", k.Line, err, test.code)
		}
	}
	if err := new(Call).Payload([]byte("{\n")); task.CodeOf(err) != task.InvalidJSON {
		t.Errorf("a payload that is no JSON: got %v", err)
	}
}

func TestWhatComesBackIsSentAgainWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	refused := func(code task.Code, after time.Duration) error { return &task.Error{Code: code, RetryAfter: after} }
	for _, test := range []struct {
		name   string
		fate   link.Fate
		err    error
		policy Policy
		times  int // that it is sent again in a row; 100: for ever
	}{
		{"answered", link.Answered, nil, Policy{true, true}, 0},
		{"never written", link.Unsent, errors.New("x"), Policy{}, 100},
		{"lost", link.Lost, errors.New("x"), Policy{}, 0},
		{"lost, may be repeated", link.Lost, errors.New("x"), Policy{Repeat: true}, maxResends},
		{"lost, only reads", link.Lost, errors.New("x"), Policy{Reads: true}, maxRereads},
		{"draining", link.Answered, refused(task.Draining, 0), Policy{}, 100},
		{"overloaded", link.Answered, refused(task.Overloaded, time.Second), Policy{}, 100},
		{"overloaded for good", link.Answered, refused(task.Overloaded, 0), Policy{}, 0},
		{"refused", link.Answered, refused(task.Conflict, 0), Policy{true, true}, 0},
		{"given up", link.Failed, link.ErrClosed, Policy{true, true}, 0},
	} {
		k := Call{Policy: test.policy}
		k.Fate, k.Err = test.fate, test.err
		times := 0
		for pause, again := k.Again(); again && times < 100; pause, again = k.Again() {
			times++
			if pause < 0 || test.name == "overloaded" && pause < time.Second || test.policy.Reads && pause == 0 {
				t.Errorf("%s: a pause of %s", test.name, pause)
			}
		}
		if times != test.times {
			t.Errorf("%s: sent again %d times, want %d", test.name, times, test.times)
		}
	}
}

func TestOnlyWhatChangesSomethingHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		k := Call{Policy: Policy{Reads: reads}}
		k.Fate, k.Err = link.Lost, errors.New("x")
		_, lost := k.Outcome()
		for _, err := range []error{lost, k.GaveUp(context.Canceled, true), k.Stopped(context.Canceled)} {
			if (task.CodeOf(err) == task.UnknownOutcome) == reads {
				t.Errorf("reads is %t: %v", reads, err)
			}
		}
		if err := k.GaveUp(context.Canceled, false); task.CodeOf(err) == task.UnknownOutcome || !errors.Is(err, context.Canceled) {
			t.Errorf("never handed on: %v", err)
		}
	}
}

func TestAFollowerKeepsSoManyLines(t *testing.T) {
	t.Parallel()
	f := NewFollower(link.Watch, Past{})
	for range keptLines {
		f.Heard(nil)
	}
	if lines, settled, cut := f.take(); len(lines) != keptLines || settled || cut {
		t.Errorf("%d lines, settled is %t, cut is %t", len(lines), settled, cut)
	}
	for range keptLines + 2 {
		f.Heard(nil)
	}
	f.Settled()
	if lines, settled, cut := f.take(); len(lines) != keptLines || !settled || !cut {
		t.Errorf("%d lines, settled is %t, cut is %t", len(lines), settled, cut)
	}
	f.Heard(nil)
	if lines, _, cut := f.take(); len(lines) != 0 || !cut {
		t.Errorf("%d lines behind the cut", len(lines))
	}
}
