package check_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

const second = int64(1e9)

// made is a run that is made by hand. Its clients' clock and that of the actions begin at 0.
type made struct {
	history.Run
	last int // request
}

// clean is a run in which every promise is kept, with something of each kind.
func clean() *made {
	m := &made{Run: history.Run{About: history.About{Drained: true}}}
	m.Happened = []history.Occurrence{
		{At: 3 * second, What: "kill", Target: "n1"}, {At: 3 * second, What: history.Death, Target: "n1", PID: 1, Note: "signal: killed"},
		{At: 4 * second, What: history.Up, Target: "n1", PID: 2},
	}
	m.hash()
	m.flaky()
	m.waiting()
	m.freed()
	m.hurried()
	m.poison()
	m.retried()
	m.returned()
	m.enqueue(9, "plain", "chaos.hash", "") // without an answer
	m.received(9.5, history.Info, history.Reply{})
	m.record("plain", "chaos.hash", "", "queued", "running", "done")
	m.ran("plain", 1, 10, history.Done)
	m.enqueue(3.1, "none", "chaos.hash", "")
	m.received(3.2, history.Fail, history.Reply{Status: "error", Code: "unavailable"})
	return m
}

// hash is a task with a key, asked for twice, and done.
func (m *made) hash() {
	m.enqueue(1, "hash", "chaos.hash", "k")
	m.received(1.1, history.OK, history.Reply{Status: "queued", Task: "hash"})
	m.enqueue(1, "hash", "chaos.hash", "k")
	m.received(1.5, history.OK, history.Reply{Status: "done", Task: "hash", Attempt: 1, Result: result("hash", 1), Duplicate: true})
	m.ask(1.6, history.Ask{Op: "get", Task: "hash"})
	m.received(1.7, history.OK, history.Reply{Status: "done", Task: "hash", Attempt: 1, Result: result("hash", 1)})
	m.record("hash", "chaos.hash", "k", "queued", "running", "done")
	m.ran("hash", 1, 1.2, history.Done)
}

// flaky is a task whose process dies, and that fails once.
func (m *made) flaky() {
	m.enqueue(2, "flaky", "chaos.flaky", "")
	m.received(2.1, history.OK, history.Reply{Status: "queued", Task: "flaky"})
	m.ask(2.2, history.Ask{Op: "get", Task: "flaky"})
	m.received(2.3, history.OK, history.Reply{Status: "running", Task: "flaky", Attempt: 1})
	m.record("flaky", "chaos.flaky", "", "queued", "running", "queued", "running", "scheduled", "queued", "running", "done")
	m.ran("flaky", 1, 2.2, "")
	m.ran("flaky", 2, 4, history.Failed)
	m.ran("flaky", 3, 5, history.Done)
}

// waiting is a task that is cancelled before it runs.
func (m *made) waiting() {
	m.enqueue(2, "waiting", "chaos.hash", "")
	m.received(2.1, history.OK, history.Reply{Status: "scheduled", Task: "waiting"})
	m.ask(2.5, history.Ask{Op: "cancel", Task: "waiting"})
	m.received(2.6, history.OK, history.Reply{Status: "cancelled", Task: "waiting"})
	m.record("waiting", "chaos.hash", "", "scheduled", "queued", "cancelled")
}

// freed is a key that a cancellation frees: the same request is another task then.
func (m *made) freed() {
	m.enqueue(2, "freed", "chaos.hash", "f")
	m.received(2.1, history.OK, history.Reply{Status: "scheduled", Task: "freed"})
	m.ask(2.5, history.Ask{Op: "cancel", Task: "freed"})
	m.received(2.6, history.OK, history.Reply{Status: "cancelled", Task: "freed"})
	m.record("freed", "chaos.hash", "f", "scheduled", "cancelled")
	m.enqueue(2.7, "freed", "chaos.hash", "f")
	m.received(2.8, history.OK, history.Reply{Status: "queued", Task: "freed2"})
	m.record("freed", "chaos.hash", "f", "queued", "running", "done")
	m.Store[len(m.Store)-1].Task = "freed2"
	m.Store[len(m.Store)-1].Result = result("freed", 1)
	m.ran("freed2", 1, 2.85, history.Done)
}

// hurried is a scheduled task that is retried by hand: it is queued at once, in its generation.
func (m *made) hurried() {
	m.enqueue(2, "hurried", "chaos.hash", "")
	m.received(2.1, history.OK, history.Reply{Status: "scheduled", Task: "hurried"})
	m.ask(2.2, history.Ask{Op: "retry", Task: "hurried"})
	none := 0
	m.received(2.3, history.OK, history.Reply{Status: "queued", Task: "hurried", Generation: &none})
	m.record("hurried", "chaos.hash", "", "scheduled", "queued", "running", "done")
	m.ran("hurried", 1, 2.5, history.Done)
}

func (m *made) poison() {
	m.enqueue(5, "poison", "chaos.kill", "")
	m.received(5.1, history.OK, history.Reply{Status: "queued", Task: "poison"})
	m.record("poison", "chaos.kill", "", "queued", "running", "queued", "running", "queued", "running", "failed")
	m.of("poison").Code = "crashed"
	for attempt := 1; attempt <= 3; attempt++ {
		m.ran("poison", attempt, 5+float64(attempt), "")
	}
}

// retried is a task that is retried by hand.
func (m *made) retried() {
	m.enqueue(6, "retried", "chaos.hash", "")
	m.received(6.1, history.OK, history.Reply{Status: "done", Task: "retried", Attempt: 1, Result: result("retried", 1)})
	m.ask(7, history.Ask{Op: "retry", Task: "retried"})
	m.received(7.1, history.OK, history.Reply{Status: "queued", Task: "retried"})
	m.record("retried", "chaos.hash", "", "queued", "running", "done", "queued", "running", "done")
	m.ran("retried", 1, 6.05, history.Done)
	m.ran("retried", 2, 7.05, history.Done)
}

// returned is a task that a worker gives back when it stops, and of which another one makes the same attempt.
func (m *made) returned() {
	m.enqueue(6, "returned", "work.hash", "")
	m.received(6.1, history.OK, history.Reply{Status: "queued", Task: "returned"})
	m.record("returned", "work.hash", "", "queued", "running", "queued", "running", "done")
	r := m.of("returned")
	r.Entries[2].Attempt, r.Entries[3].Attempt, r.Entries[4].Attempt, r.Attempt = 0, 1, 1, 1
	r.Result = result("returned", 1)
	m.ran("returned", 1, 6.2, history.Failed)
	m.ran("returned", 1, 7, history.Done)
}

func (m *made) enqueue(at float64, nonce, action, key string) {
	m.ask(at, history.Ask{Op: "enqueue", Action: action, Queue: "q", Key: key, Nonce: nonce})
}

func (m *made) ask(at float64, ask history.Ask) {
	m.last++
	m.Clients = append(m.Clients, history.Event{At: int64(at * 1e9), Conn: 1, ID: m.last, Kind: history.Invoke, Ask: &ask})
}

// received is a reply to the last request.
func (m *made) received(at float64, kind history.Kind, reply history.Reply) {
	m.Clients = append(m.Clients, history.Event{At: int64(at * 1e9), Conn: 1, ID: m.last, Kind: kind, Reply: &reply})
}

// ran is an execution; one without an end was cut short.
func (m *made) ran(task string, attempt int, at float64, how string) {
	x := history.Execution{At: int64(at * 1e9), PID: 1, Task: task, Attempt: attempt, Action: m.of(task).Action, How: history.Start}
	m.Journal = append(m.Journal, x)
	if x.How = how; how != "" {
		x.At += second / 100
		m.Journal = append(m.Journal, x)
	}
}

// record is a task whose history goes through these states.
func (m *made) record(nonce, action, key string, states ...string) {
	r := history.Record{Task: nonce, Queue: "q", Action: action, Key: key}
	r.Payload = marshal(history.Payload{Nonce: nonce, Fails: 1, Attempts: 5})
	for i, state := range states {
		if state == "running" {
			r.Attempt++
		}
		if i > 0 && (states[i-1] == "done" || states[i-1] == "failed" || states[i-1] == "cancelled") {
			r.Generation++
		}
		r.Status = state
		r.Entries = append(r.Entries, history.Entry{Status: state, Attempt: r.Attempt, Seq: i + 1})
	}
	if r.Status == "done" {
		r.Result = result(nonce, r.Attempt)
	}
	m.Store = append(m.Store, r)
}

// of finds a task in the store.
func (m *made) of(task string) *history.Record {
	for i := range m.Store {
		if m.Store[i].Task == task {
			return &m.Store[i]
		}
	}
	panic(fmt.Sprintf("no task %s", task))
}

// reply finds the last reply about a task.
func (m *made) reply(task string) *history.Reply {
	for i := len(m.Clients) - 1; i >= 0; i-- {
		if reply := m.Clients[i].Reply; reply != nil && reply.Task == task {
			return reply
		}
	}
	panic(fmt.Sprintf("no reply about %s", task))
}

// without takes a task out of the store.
func (m *made) without(task string) {
	for i := range m.Store {
		if m.Store[i].Task == task {
			m.Store = append(m.Store[:i], m.Store[i+1:]...)
			return
		}
	}
}

func result(nonce string, attempt int) json.RawMessage {
	return marshal(map[string]any{"ok": true, "data": history.Result{Hash: history.Hash(nonce), Attempt: attempt}})
}

func marshal(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// sumOf is the answer about a result that cannot be read.
func sumOf(result json.RawMessage) json.RawMessage {
	return fmt.Appendf(nil, `{"ok":true,"blob":{"size":%d,"sha256":"%x","href":"/v1/tasks/hash/result"}}`, len(result), sha256.Sum256(result))
}
