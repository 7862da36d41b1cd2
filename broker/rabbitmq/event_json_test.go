package rabbitmq

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func change(text string) broker.Event {
	return broker.Event{
		Kind: broker.Changed, Task: "01M8A8NMKBBFEJM89SNQ71SWFB", Queue: "mail", Attempt: 3,
		Entry: task.Entry{
			Seq: 5, State: task.Running, Attempt: 3, Generation: 1, Node: "node-1", Error: text,
			At: time.Date(2026, 11, 29, 18, 0, 58, 123_000_000, time.UTC),
		},
	}
}

func samples() map[string][]broker.Event {
	progressed := broker.Event{Kind: broker.Progressed, Task: "01M", Queue: "mail", Attempt: 1, Progress: task.Progress{Percent: 12.5, Message: "half"}}
	zoned := change("")
	zoned.Entry.At = zoned.Entry.At.In(time.FixedZone("", 3600))
	byWorker := change("")
	byWorker.Entry.Worker = "img-311"
	byOddWorker := change("")
	byOddWorker.Entry.Worker = "größer"
	early := change("")
	early.Entry.At = time.Time{}
	return map[string][]broker.Event{
		"none":                      {},
		"one change":                {change("")},
		"several changes":           {change(""), change("no such host"), change("")},
		"a text that needs escapes": {change("he said \"<no>\" & left\n"), change("")},
		"a text beyond ASCII":       {change("größer"), change("\xff")},
		"other kinds of events":     {change(""), progressed, {Kind: broker.Paused, Queue: "mail"}},
		"unusual times":             {zoned, early},
		"attempts of workers":       {byWorker, byOddWorker, change(""), byWorker},
	}
}

// Nodes of other releases may use encoding/json, so marshalEvents must write exactly its output,
// and parseEvents must read exactly its input.
func TestEventsAreWrittenAndParsedLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	for name, events := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := json.Marshal(events)
			if err != nil {
				t.Fatal(err)
			}
			if got := marshalEvents(events); string(got) != string(want) {
				t.Errorf("marshalEvents wrote\n%s\nwant\n%s", got, want)
			}
			wantSameAsJSON(t, want)
		})
	}
}

// wantSameAsJSON checks that parseEvents reads a message as encoding/json does.
func wantSameAsJSON(t *testing.T, body []byte) {
	t.Helper()
	var want []broker.Event
	wantErr := json.Unmarshal(body, &want)
	got, err := parseEvents(body)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: got the error %v, want %v", body, err, wantErr)
	}
	if err == nil && !cmp.Equal(got, want) {
		t.Errorf("%q: %s", body, cmp.Diff(want, got))
	}
}

func FuzzRead(f *testing.F) {
	for _, events := range samples() {
		f.Add(marshalEvents(events))
	}
	for _, text := range []string{"", "[", "[]", "[,]", "[1]", `{"Kind":"changed"}`, `[{"Kind":"changed","Task":"x"}]`, `[{"kind":"changed"}]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) { wantSameAsJSON(t, body) })
}

func BenchmarkRead(b *testing.B) {
	body := marshalEvents([]broker.Event{change(""), change(""), change(""), change("")})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseEvents(body); err != nil {
			b.Fatal(err)
		}
	}
}
