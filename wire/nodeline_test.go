package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func TestNodeLineReadsWhatANodeWritesToAWorker(t *testing.T) {
	t.Parallel()
	var l wire.NodeLine
	stored := &task.Task{ID: "01JE8Q", Attempt: 2}
	stored.Queue, stored.Meta = "mail", map[string]string{"user": "7"}
	push := wire.AppendPush(nil, []byte(`"w"`), &wire.Push{
		Lease: "01JE8Q.3", Task: stored, Action: "gr\"eet", Timeout: 1500 * time.Millisecond, Payload: []byte(`{"a":[1]}`),
	})
	if err := l.Parse(push[:len(push)-1]); err != nil {
		t.Fatal(err)
	}
	if string(l.ID) != `"w"` || string(l.Status) != "running" || string(l.Lease) != "01JE8Q.3" || string(l.Task) != "01JE8Q" || l.Attempt != 2 ||
		string(l.Action) != `gr"eet` || l.Timeout != 1500*time.Millisecond || string(l.Payload) != `{"a":[1]}` || l.Href != "" {
		t.Errorf("push: got %+v", l)
	}
	for line, check := range map[string]func() bool{
		`{"id":"w","status":"running","lease":"A.1","task":"A","payload_blob":{"size":9,"sha256":"x","href":"/v1/tasks/A/payload"}}`: func() bool {
			return l.Href == "/v1/tasks/A/payload" && l.Payload == nil
		},
		`{"id":"w","status":"ready","worker":"w1","node":"n1","slots":1,"held":["A.1","B.2"],"lost":[]}`: func() bool {
			return l.Node == "n1" && strings.Join(l.Held, " ") == "A.1 B.2"
		},
		`{"id":"w","status":"cancelling","lease":"A.1","code":"lost"}`: func() bool { return l.Code == "lost" && l.Held == nil },
		`{"id":null,"status":"error","code":"unavailable","error":"away","retry_after":0.5,"lease":"A.1"}`: func() bool {
			refusal := l.Refusal()
			return l.ID == nil && refusal.Code == task.Unavailable && refusal.RetryAfter == 500*time.Millisecond && refusal.Message == "away"
		},
		`{"id":7,"status":"weather","colour":[{"a":1}],"text":"x"}`: func() bool { return string(l.ID) == "7" && string(l.Status) == "weather" },
	} {
		if err := l.Parse([]byte(line)); err != nil || !check() {
			t.Errorf("%s: got %+v, %v", line, l, err)
		}
	}
}

func TestNodeLineRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		``, `[]`, `{"id":1`, `{"status":1}`, `{"lease":null}`, `{"task":{}}`, `{"attempt":"1"}`, `{"timeout":-1}`, `{"payload_blob":[]}`,
		`{"payload_blob":{}}`, `{"code":[]}`, `{"held":{}}`, `{"held":[1]}`, `{"retry_after":"x"}`, `{"id":1} {}`,
	} {
		if err := new(wire.NodeLine).Parse([]byte(line)); err == nil {
			t.Errorf("%s was accepted", line)
		}
	}
}
