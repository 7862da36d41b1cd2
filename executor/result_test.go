package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/testenv"
)

// spiteful is an error whose text cannot be had.
type spiteful struct{}

func (spiteful) Error() string { panic("no text") }

// unspeakable is a value that panics when it is marshalled.
type unspeakable struct{}

func (unspeakable) MarshalJSON() ([]byte, error) { panic("no JSON") }

// formCases are actions of both forms and what they give.
func formCases() []struct {
	name   string
	action actions.Action
	want   string
} {
	value := func(v any) actions.Action {
		return actions.Action{Run: func(context.Context, *actions.Call) (any, error) { return v, nil }}
	}
	fails := func(err error) actions.Action {
		return actions.Action{Run: func(context.Context, *actions.Call) (any, error) { return 1, err }}
	}
	appends := func(text string, err error) actions.Action {
		return actions.Action{Append: func(_ context.Context, _ *actions.Call, dst []byte) ([]byte, error) { return append(dst, text...), err }}
	}
	return []struct {
		name   string
		action actions.Action
		want   string
	}{
		{"a string", value("a"), `{"ok":true,"data":"a"}`},
		{"nothing", value(nil), `{"ok":true,"data":null}`},
		{"a map", value(map[string]any{"b": 1, "a": []int{}}), `{"ok":true,"data":{"a":[],"b":1}}`},
		{"signs of HTML", value("<a>&"), `{"ok":true,"data":"<a>&"}`},
		{"a line break in a string", value("a\nb"), `{"ok":true,"data":"a\nb"}`},
		{"text that is no UTF-8", value("a\xff"), `{"ok":true,"data":"a\ufffd"}`},
		{"raw JSON with line breaks", value(json.RawMessage("{\n \"a\": 12345678901234567890\n}")), `{"ok":true,"data":{"a":12345678901234567890}}`},
		{"raw JSON that is none", value(json.RawMessage("{")), `{"ok":false,"error":"the result of the action is not JSON: …"}`},
		{"a channel", value(make(chan int)), `{"ok":false,"error":"the result of the action is not JSON: json: unsupported type: chan int"}`},
		{"an error", fails(errors.New("disk full")), `{"ok":false,"error":"disk full"}`},
		{"an error without a text", fails(errors.New("")), `{"ok":false,"error":""}`},
		{"an error of all kinds of bytes", fails(errors.New("a\n\"b\"\\\x00\x1b[31m\xff\xed\xa0\x80é<&>")), `{"ok":false,"error":"a\n\"b\"\\\u0000\u001b[31m` + "\ufffd\ufffd\ufffd\ufffd" + `é<&>"}`},
		{"an error whose text panics", fails(spiteful{}), `{"ok":false,"error":"action X panicked: no text"}`},
		{"a value that panics", value(unspeakable{}), `{"ok":false,"error":"action X panicked: no JSON"}`},
		{"members", appends(`"n":1`, nil), `{"ok":true,"n":1}`},
		{"an error after members", appends(`"n":1`, errors.New("no")), `{"ok":false,"error":"no"}`},
		{"no member", appends(``, nil), `{"ok":true}`},
		{"a line break between members", appends("\"n\":1,\n\"m\":2", nil), `{"ok":false,"error":"the action wrote a line break into its result"}`},
		{"bytes that are no UTF-8", appends("\"n\":\"\xff\"", nil), `{"ok":false,"error":"the action wrote bytes that are not UTF-8 into its result"}`},
		{"raw JSON that is no UTF-8", value(json.RawMessage("\"\xff\"")), `{"ok":false,"error":"the action wrote bytes that are not UTF-8 into its result"}`},
		{"another buffer", actions.Action{Append: func(context.Context, *actions.Call, []byte) ([]byte, error) { return nil, nil }}, `{"ok":false,"error":"the action did not append its result to what it was given"}`},
		{"a result as large as may be", appends(`"n":"`+strings.Repeat("x", 1000-len(`{"ok":true,"n":""}`))+`"`, nil), `{"ok":true,"n":"` + strings.Repeat("x", 1000-len(`{"ok":true,"n":""}`)) + `"}`},
		{"a result one byte larger", appends(`"n":"`+strings.Repeat("x", 1001-len(`{"ok":true,"n":""}`))+`"`, nil), `{"ok":false,"error":"the result has 1001 bytes, at most 1000 are allowed"}`},
		{"a much larger result", value(strings.Repeat("x", 1<<20)), `{"ok":false,"error":"the result has 1048597 bytes, at most 1000 are allowed"}`},
		{"a very long error", fails(errors.New(strings.Repeat("é", 1<<20))), `{"ok":false,"error":"éééé…"}`},
		{"a panic", actions.Action{Run: func(context.Context, *actions.Call) (any, error) { panic("boom") }}, `{"ok":false,"error":"action X panicked: boom"}`},
		{"a panic of nothing", actions.Action{Run: func(context.Context, *actions.Call) (any, error) { panic(nil) }}, `{"ok":false,"error":"action X panicked: panic called with nil argument"}`},
		{"a panic of the runtime", actions.Action{Run: func(context.Context, *actions.Call) (any, error) {
			var none []int
			return none[len(none)], nil
		}}, `{"ok":false,"error":"action X panicked: runtime error: index out of range [0] with length 0"}`},
		{"a very long panic", actions.Action{Run: func(context.Context, *actions.Call) (any, error) { panic(strings.Repeat("é", 1<<20)) }}, `{"ok":false,"error":"action X panicked: ééé…"}`},
		{"the end of its goroutine", actions.Action{Run: func(context.Context, *actions.Call) (any, error) { runtime.Goexit(); return 1, nil }}, `{"ok":false,"error":"the action ended its goroutine instead of returning"}`},
	}
}

// TestWhateverAnActionDoesItsTaskGetsOneResult runs each in a lane, in a slot and
// over Run, and wants all permits back.
func TestWhateverAnActionDoesItsTaskGetsOneResult(t *testing.T) {
	t.Parallel()
	var list []actions.Action
	for i, c := range formCases() {
		for _, slow := range []bool{false, true} {
			a := c.action
			a.Name, a.Slow = fmt.Sprintf("case%d-%t", i, slow), slow
			list = append(list, a)
		}
	}
	e := newExecutor(t, Config{MaxResult: 1000, Slots: 2, QuickSlots: 2}, list...)
	for i, c := range formCases() {
		for _, way := range []string{"a lane", "a slot", "Run, quick", "Run, slow"} {
			name := fmt.Sprintf("case%d-%t", i, way == "a slot" || way == "Run, slow")
			want := strings.ReplaceAll(c.want, "action X", "action "+name)
			if got := runBy(t, e, way, newTask("1", name, "null")); !matches(got, want) {
				t.Errorf("%s in %s gives %.200s, want %.200s", c.name, way, got, want)
			} else if !json.Valid([]byte(got)) || strings.Contains(got, "\n") || len(got) > 8<<10 {
				t.Errorf("%s in %s gives %d bytes that are no result: %.200s", c.name, way, len(got), got)
			}
		}
	}
	eventually(t, func() bool { s := e.Stats(); return s.SlotsBusy == 0 && s.QuickBusy == 0 })
	checkIdle(t, e)
}

// matches compares with a text in which an ellipsis at its end stands for more.
func matches(got, want string) bool {
	before, after, cut := strings.Cut(want, `…"}`)
	if !cut {
		return got == want
	}
	return strings.HasPrefix(got, before) && strings.HasSuffix(got, after+`"}`)
}

// runBy runs a task in one of the ways that there are.
func runBy(t *testing.T, e *Executor, way string, task Task) string {
	t.Helper()
	r := newResults()
	switch way {
	case "a slot":
		e.NewSource().Start(task, r.deliver)
	case "a lane":
		go func() { // it may end its goroutine
			lane := e.NewLane()
			lane.Bind(e.NewSource())
			lane.HandOver, lane.Deliver = func() {}, r.deliver
			if err := lane.Enter(t.Context()); err != nil {
				t.Error(err)
			}
			result, fate := lane.Run(task)
			if fate == IsSlow {
				t.Errorf("task %s of action %s is slow", task.ID, task.Action)
			}
			if fate != IsLost {
				r.deliver(task, result)
				lane.Leave()
			}
		}()
	default:
		result, err := e.Run(t.Context(), task)
		if err != nil {
			t.Errorf("action %s over Run: %v", task.Action, err)
		}
		return string(result)
	}
	return (<-r)[1]
}

// eventually polls, for what has no event to wait for.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
		runtime.Gosched()
	}
}

func TestAnActionSeesThePayloadAsItWasSentAndNullForNone(t *testing.T) {
	t.Parallel()
	see := actions.New("see", func(_ context.Context, call *actions.Call) (any, error) {
		return call.Action + " " + string(call.Payload), nil
	})
	waits := see
	waits.Name, waits.Slow = "waits", true
	e := newExecutor(t, Config{}, see, waits)
	for payload, want := range map[string]string{`{"a": 1e5}`: `{\"a\": 1e5}`, ``: `null`, `12345678901234567890`: `12345678901234567890`} {
		task := newTask("1", "see", payload)
		if payload == "" {
			task.Payload, task.ID = nil, nil
		}
		for _, way := range []string{"a lane", "Run, quick"} {
			if got := runBy(t, e, way, task); got != `{"ok":true,"data":"see `+want+`"}` {
				t.Errorf("%q in %s: %s", payload, way, got)
			}
		}
		task.Action = []byte("waits")
		if got := runBy(t, e, "a slot", task); got != `{"ok":true,"data":"waits `+want+`"}` {
			t.Errorf("%q in a slot: %s", payload, got)
		}
	}
}

func TestAnUnknownActionIsAnsweredInEveryWay(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, Config{})
	for _, way := range []string{"a lane", "a slot", "Run, quick"} {
		if got := runBy(t, e, way, newTask("1", `no"pe`, "null")); got != `{"ok":false,"error":"unknown action no\"pe"}` {
			t.Errorf("in %s: %s", way, got)
		}
	}
	if n := e.Stats().ByAction[Unknown].Failed; n != 3 {
		t.Errorf("%d are counted", n)
	}
}

func TestStartKeepsACopyOfTheTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newExecutor(t, Config{}, actions.Action{Name: "slow", Slow: true, Run: func(_ context.Context, call *actions.Call) (any, error) {
			<-goOn
			return call.Payload, nil
		}})
		r := newResults()
		task := newTask("id", "slow", `"payload"`)
		e.NewSource().Start(task, r.deliver)
		for _, b := range [][]byte{task.ID, task.Action, task.Payload} {
			clear(b)
		}
		close(goOn)
		r.want(t, "id", `{"ok":true,"data":"payload"}`)
	})
}

func TestAPanicIsLoggedOnceWithItsStackAndWithoutThePayload(t *testing.T) {
	t.Parallel()
	var log testenv.Buffer
	e := newExecutor(t, Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))}, actions.New("bad", panicDeepInside))
	if got := runBy(t, e, "a lane", newTask("1", "bad", `"secret"`)); got != `{"ok":false,"error":"action bad panicked: deep"}` {
		t.Error(got)
	}
	text := log.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, "panicDeepInside") || !strings.Contains(text, `"action":"bad"`) {
		t.Errorf("the log has\n%s", text)
	}
	if strings.Contains(text, "secret") {
		t.Errorf("the log has the payload\n%s", text)
	}
	if s := e.Stats().ByAction["bad"]; s.Panicked != 1 || s.Done+s.Failed != 0 {
		t.Errorf("it counts as %+v", s)
	}
}

func panicDeepInside(context.Context, *actions.Call) (any, error) { panic("deep") }
