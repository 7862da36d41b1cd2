package service

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// read parses a line, and spoils its bytes when what was asked has been taken from it.
func read[T any](t *testing.T, line string, take func(*wire.Request) (T, *task.Error)) (T, *task.Error) {
	t.Helper()
	raw, request := []byte(line), new(wire.Request)
	if refusal := request.Parse(raw, wire.OpRun); refusal != nil {
		t.Fatal(refusal)
	}
	if refusal := request.Validate(); refusal != nil {
		t.Fatal(refusal)
	}
	value, refusal := take(request)
	for i := range raw {
		raw[i] = '#'
	}
	return value, refusal
}

func TestAnEnqueueBecomesATask(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	tests := map[string]durable.Request{
		`{"op":"enqueue","action":"upper"}`: {Action: "upper"},
		`{"op":"enqueue","action":"upper","payload":{"a":[1]},"queue":"mail","priority":"high","delay":60,"timeout":5,"max_attempts":2,"backoff":1.5,"backoff_max":9,"key":"k","keep":10,"keep_failed":20,"meta":{"a":"ñ"}}`: {
			Action: "upper", Payload: []byte(`{"a":[1]}`), Options: task.Options{
				Queue: "mail", Priority: task.High, Delay: time.Minute, Timeout: 5 * time.Second, MaxAttempts: 2, Key: "k", Backoff: 1500 * time.Millisecond,
				BackoffMax: 9 * time.Second, Keep: 10 * time.Second, KeepFailed: 20 * time.Second, Meta: map[string]string{"a": "ñ"},
			},
		},
		`{"op":"enqueue","action":"upper","priority":"low","run_at":"2031-01-01T02:00:00+02:00","expires":1.5}`: {
			Action: "upper", Options: task.Options{Priority: task.Low, RunAt: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), ExpiresIn: 1500 * time.Millisecond},
		},
		`{"op":"enqueue","action":"upper","delay":0,"backoff":0,"backoff_max":0.0,"keep":0,"keep_failed":0}`: { // said, and not left out
			Action: "upper", Options: task.Options{Backoff: task.Zero, BackoffMax: task.Zero, Keep: task.Zero, KeepFailed: task.Zero},
		},
		`{"op":"enqueue","action":"upper","priority":"normal","payload_blob":{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":7,"sha256":"` + sum + `"}}`: {
			Action: "upper", Upload: &task.Upload{Task: "01J5ZZZZZZZZZZZZZZZZZZZZZZ", Body: task.Body{Size: 7, SHA256: sum}},
		},
	}
	for line, want := range tests {
		got, refusal := read(t, line, func(r *wire.Request) (durable.Request, *task.Error) { return Enqueued(r, auth.Open()) })
		if refusal != nil {
			t.Errorf("%s: %v", line, refusal)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
}

func TestABlobMustBeOneThatWasUploaded(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	for _, blob := range []string{
		`{}`, `{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":7}`, `{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":-1,"sha256":"` + sum + `"}`,
		`{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":67108865,"sha256":"` + sum + `"}`, `{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":7.5,"sha256":"` + sum + `"}`,
		`{"task":"01j5zzzzzzzzzzzzzzzzzzzzzz","size":7,"sha256":"` + sum + `"}`, `{"task":"../5ZZZZZZZZZZZZZZZZZZZZZZ","size":7,"sha256":"` + sum + `"}`,
		`{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":7,"sha256":"` + strings.ToUpper(sum) + `"}`, `{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":7,"sha256":"` + sum + `","more":1}`,
	} {
		_, refusal := read(t, `{"op":"enqueue","action":"upper","payload_blob":`+blob+`}`, func(r *wire.Request) (durable.Request, *task.Error) { return Enqueued(r, auth.Open()) })
		if refusal == nil || refusal.Code != task.InvalidRequest || refusal.Field != "payload_blob" {
			t.Errorf("%s: %v", blob, refusal)
		}
	}
}

func TestListsAndFiltersSelect(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]durable.Query{
		`{"op":"list"}`: {Limit: 50},
		`{"op":"list","queue":"mail","action":"upper","status":"done","meta":{"a":"b"},"limit":7,"cursor":"c"}`: {
			Queue: "mail", Action: "upper", State: task.Done, Meta: map[string]string{"a": "b"}, Limit: 7, Cursor: "c",
		},
		`{"op":"list","since":"2030-01-01T02:00:00+02:00","until":"2030-01-02T00:00:00Z"}`: {
			Since: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC), Limit: 50,
		},
		`{"op":"cancel","filter":{"queue":"mail"}}`: {Queue: "mail", Limit: 1000},
		`{"op":"retry","filter":{"action":"upper","status":"failed","meta":{"a":"b"}},"limit":10000}`: {
			Action: "upper", State: task.Failed, Meta: map[string]string{"a": "b"}, Limit: 10_000,
		},
	} {
		got, refusal := read(t, line, queryOf)
		if refusal != nil {
			t.Errorf("%s: %v", line, refusal)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
}
