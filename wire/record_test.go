package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

// fullTask is a task of which all is known, as far as a state allows.
func fullTask(state task.State) task.Task {
	at := time.Date(2026, 1, 31, 8, 0, 0, 123456789, time.FixedZone("", 2*3600))
	return task.Task{
		ID: "01JE", Action: "upper", Payload: task.Body{Inline: []byte(`"hola"`)},
		Options:    task.Options{Queue: "mail", Priority: task.High, RunAt: at, MaxAttempts: 3, Timeout: 2500 * time.Millisecond, Key: "k\n", Meta: map[string]string{"b": "2", "a": "\""}},
		State:      state,
		Attempt:    2,
		Generation: 1,
		Cancelling: state == task.Running,
		CreatedAt:  at, StartedAt: at.Add(time.Second), FinishedAt: at.Add(2 * time.Second),
		Node:     "n1",
		Progress: task.Progress{Percent: 12.5, Message: "half \"way\""},
		Result:   task.Body{Inline: []byte(`{"ok":true,"data":1.0}`)},
		Code:     task.TimedOut, Error: "it took <too> long",
		Warning: "w",
	}
}

func TestRecordsAreRenderedKeyByKeyInTheirOrder(t *testing.T) {
	t.Parallel()
	const (
		head  = `"task":"01JE","queue":"mail","action":"upper","attempt":2,"max_attempts":3,"timeout":2.5,"generation":1,"priority":"high"`
		times = `"created_at":"2026-01-31T06:00:00.123Z","run_at":"2026-01-31T06:00:00.123Z","started_at":"2026-01-31T06:00:01.123Z","finished_at":"2026-01-31T06:00:02.123Z"`
		tail  = `"key":"k\n","meta":{"a":"\"","b":"2"},"warning":"w","payload":"hola"`
		blob  = `{"ok":true,"blob":{"size":2097152,"sha256":"ab","href":"/v1/tasks/01JE/result"}}`
	)
	done, running, failed, cancelled := fullTask(task.Done), fullTask(task.Running), fullTask(task.Failed), fullTask(task.Cancelled)
	large := done
	large.Result = task.Body{Size: 2 << 20, SHA256: "ab"}
	small := task.Task{ID: "01JE", Action: "a", Options: task.Options{Queue: "default"}, State: task.Queued, CreatedAt: done.CreatedAt}
	entry := task.Entry{Seq: 3, State: task.Scheduled, Attempt: 2, Generation: 1, At: done.CreatedAt, Node: "n1", Error: "no"}
	worked, workedEntry := done, entry
	worked.Worker, workedEntry.Worker = "img-311", "img-311"
	ended := entry
	ended.State = task.Failed
	first := task.Entry{Seq: 1, State: task.Queued, At: done.CreatedAt}
	record := func(t *task.Task) string { return string(AppendRecord(nil, []byte("7"), t)) }
	final := func(t *task.Task, seq int, duplicate bool) string {
		return string(AppendFinal(nil, []byte("7"), t, seq, duplicate))
	}
	state := func(t *task.Task, retried bool) string { return string(AppendState(nil, []byte("7"), t, retried)) }
	accepted := func(t *task.Task, duplicate bool, warning string) string {
		return string(AppendAccepted(nil, []byte("7"), t, duplicate, warning))
	}
	scheduled := fullTask(task.Scheduled)
	for _, c := range []struct{ name, got, want string }{
		{"done", record(&done), `"status":"done",` + head + `,` + times + `,"node":"n1",` + tail + `,"result":{"ok":true,"data":1.0}`},
		{"done, large", record(&large), `"status":"done",` + head + `,` + times + `,"node":"n1",` + tail + `,"result":` + blob},
		{"running", record(&running), `"status":"running",` + head + `,` + times + `,"node":"n1","progress":{"percent":12.5,"message":"half \"way\""},"cancelling":true,` + tail},
		{"failed", record(&failed), `"status":"failed",` + head + `,` + times + `,"node":"n1",` + tail + `,"error":"it took <too> long","code":"timed_out"`},
		{"cancelled", record(&cancelled), `"status":"cancelled",` + head + `,` + times + `,"node":"n1",` + tail},
		{"waits for another attempt", record(&scheduled), `"status":"scheduled",` + head + `,` + times + `,"node":"n1",` + tail + `,"error":"it took <too> long","code":"timed_out"`},
		{"done, by a worker", record(&worked), `"status":"done",` + head + `,` + times + `,"node":"n1","worker":"img-311",` + tail + `,"result":{"ok":true,"data":1.0}`},
		{"entry, by a worker", string(AppendEntry(nil, []byte("7"), "01JE", &workedEntry)), `"status":"scheduled","task":"01JE","attempt":2,"seq":3,"at":"2026-01-31T06:00:00.123Z","node":"n1","worker":"img-311","error":"no"`},
		{"little", record(&small), `"status":"queued","task":"01JE","queue":"default","action":"a","attempt":0,"max_attempts":0,"timeout":0,"generation":0,"priority":"normal","created_at":"2026-01-31T06:00:00.123Z"`},
		{"final, done", final(&done, 0, false), `"status":"done","task":"01JE","result":{"ok":true,"data":1.0},"attempt":2`},
		{"final, large", final(&large, 9, true), `"status":"done","task":"01JE","result":` + blob + `,"attempt":2,"seq":9,"at":"2026-01-31T06:00:02.123Z","duplicate":true`},
		{"final, failed", final(&failed, 0, true), `"status":"failed","task":"01JE","error":"it took <too> long","code":"timed_out","attempt":2,"duplicate":true`},
		{"final, cancelled", final(&cancelled, 3, false), `"status":"cancelled","task":"01JE","attempt":2,"seq":3,"at":"2026-01-31T06:00:02.123Z"`},
		{"accepted", accepted(&small, false, ""), `"status":"queued","task":"01JE"`},
		{"accepted, later", accepted(&scheduled, true, "w"), `"status":"scheduled","task":"01JE","run_at":"2026-01-31T06:00:00.123Z","duplicate":true,"warning":"w"`},
		{"entry", string(AppendEntry(nil, []byte("7"), "01JE", &entry)), `"status":"scheduled","task":"01JE","attempt":2,"seq":3,"at":"2026-01-31T06:00:00.123Z","node":"n1","error":"no"`},
		{"first entry", string(AppendEntry(nil, []byte("7"), "01JE", &first)), `"status":"queued","task":"01JE","attempt":0,"seq":1,"at":"2026-01-31T06:00:00.123Z"`},
		{"end of an earlier generation", string(AppendEntry(nil, []byte("7"), "01JE", &ended)), `"status":"failed","task":"01JE","attempt":2,"seq":3,"at":"2026-01-31T06:00:00.123Z","node":"n1","error":"no","retried":true`},
		{"progress", string(AppendProgress(nil, []byte("7"), "01JE", 2, task.Progress{Percent: 100})), `"status":"running","task":"01JE","attempt":2,"progress":{"percent":100}`},
		{"cancelled now", state(&cancelled, false), `"status":"cancelled","task":"01JE"`},
		{"cancelling", state(&running, false), `"status":"cancelling","task":"01JE"`},
		{"retried", state(&small, true), `"status":"queued","task":"01JE","generation":0`},
		{"retried and started", state(&running, true), `"status":"running","task":"01JE","generation":1`},
	} {
		if want := `{"id":7,` + c.want + "}\n"; c.got != want {
			t.Errorf("%s is\n%s want\n%s", c.name, c.got, want)
		}
		var reply Reply
		if err := reply.Parse([]byte(strings.TrimSuffix(c.got, "\n"))); err != nil || !json.Valid([]byte(c.got)) {
			t.Errorf("%s is no reply: %v", c.name, err)
		}
	}
}
