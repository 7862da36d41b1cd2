package check_test

import (
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/check"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

func TestARunInWhichEveryPromiseIsKeptPasses(t *testing.T) {
	t.Parallel()
	m := clean()
	verdict := check.Run(&m.Run)
	for _, v := range verdict.Violations {
		t.Error(v)
	}
	c := verdict.Counts
	if c.Acknowledged != 9 || c.Lost != 0 || c.Recovered != 1 || c.Crashed != 1 || c.Cancelled != 2 || c.Retried != 1 || c.Doubles != 0 {
		t.Errorf("%+v", c)
	}
	if c.Deaths != 1 || c.Kills != 1 || c.Busy != 1 || c.Cut != 1 || c.Poisoned != 0 {
		t.Errorf("one death cut short one execution: %+v", c)
	}
	if c.Again != 3 || c.Duplicated != 0 || c.Info != 1 || c.Fail != 1 {
		t.Errorf("%+v", c)
	}
}

// TestAResultMayBeComparedByItsSum is about storage for large bodies that is away when a client asks.
func TestAResultMayBeComparedByItsSum(t *testing.T) {
	t.Parallel()
	m := clean()
	m.reply("hash").Result = sumOf(result("hash", 1))
	for _, v := range check.Run(&m.Run).Violations {
		t.Error(v)
	}
}

// TestATaskThatIsKilledAloneAfterAQuietPeriodIsCountedAndNotJudged has an innocent task that no store can tell from poison.
func TestATaskThatIsKilledAloneAfterAQuietPeriodIsCountedAndNotJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more []history.Occurrence
		want int // violations
	}{
		"killed after a quiet period": {[]history.Occurrence{{At: 41 * second, What: "kill", Target: "n1"}}, 0},
		"another node started":        {[]history.Occurrence{{At: 41 * second, What: "kill", Target: "n1"}, {At: 35 * second, What: history.Up, Target: "n2"}}, 1},
		"nobody killed it":            {nil, 1},
	} {
		m := clean()
		m.enqueue(5, "unlucky", "chaos.sleep", "")
		m.received(5.1, history.OK, history.Reply{Status: "queued", Task: "unlucky"})
		m.record("unlucky", "chaos.sleep", "", "queued", "running", "queued", "running", "queued", "running", "failed")
		m.of("unlucky").Code = "crashed"
		for attempt := range 3 {
			m.ran("unlucky", attempt+1, 20+10*float64(attempt), "")
		}
		m.Happened = append(append(m.Happened, c.more...), history.Occurrence{At: 41*second + 1, What: history.Death, Target: "n1", PID: 1, Note: "signal: killed"})
		verdict := check.Run(&m.Run)
		if len(verdict.Violations) != c.want || verdict.Counts.Mistaken != 1-c.want {
			t.Errorf("%s: %v, %d mistaken", name, verdict.Violations, verdict.Counts.Mistaken)
		}
	}
}

// breaks are ways to break a run, by the promise that is not kept then.
func breaks() map[string]map[string]func(*made) {
	return map[string]map[string]func(*made){
		"accepted is never lost": {
			"an acknowledged task is not there": func(m *made) { m.without("waiting") },
			"a client gets the answer that its task is not there": func(m *made) {
				m.ask(9, history.Ask{Op: "get", Task: "hash"})
				m.received(9.1, history.Fail, history.Reply{Status: "error", Code: "not_found", Task: "hash"})
			},
		},
		"every task reaches a final state": {
			"a task is queued for ever": func(m *made) { m.of("hash").Status, m.of("hash").Entries = "queued", nil },
			"the time was over":         func(m *made) { m.About.Drained = false },
		},
		"one final state for each generation, by allowed changes": {
			"two ends":           func(m *made) { m.append("hash", "failed", 1) },
			"a run after an end": func(m *made) { m.append("hash", "running", 2) },
			"an attempt that a node made is given back": func(m *made) { m.of("returned").Action = "chaos.hash" },
			"an attempt is left out":                    func(m *made) { m.of("flaky").Entries[3].Attempt = 3 },
			"an entry is missing":                       func(m *made) { m.of("flaky").Entries[4].Seq = 6 },
			"the row is not the newest":                 func(m *made) { m.of("hash").Attempt = 2 },
			"a generation too many":                     func(m *made) { m.of("hash").Generation = 1 },
		},
		"only a retry by a client leaves a final state": {
			"nobody asked for a retry": func(m *made) { m.append("hash", "queued", 1); m.append("hash", "cancelled", 1) },
			"a retry was answered and not made": func(m *made) {
				m.ask(8, history.Ask{Op: "retry", Task: "hash"})
				one := 1
				m.received(8.1, history.OK, history.Reply{Status: "queued", Task: "hash", Generation: &one})
			},
		},
		"answers are correct": {
			"another end was answered":               func(m *made) { r := m.reply("hash"); r.Status, r.Result = "failed", nil },
			"another result was answered":            func(m *made) { m.reply("hash").Result = marshal("other") },
			"the sum of another result was answered": func(m *made) { m.reply("hash").Result = sumOf(result("hash", 2)) },
			"a cancel was answered with a state in which the task runs on": func(m *made) {
				m.ask(2.2, history.Ask{Op: "cancel", Task: "flaky"})
				m.received(2.3, history.OK, history.Reply{Status: "running", Task: "flaky", Attempt: 1})
			},
			"an end of an attempt that never was": func(m *made) {
				m.reply("hash").Attempt = 2
			},
		},
		"reads do not go back": {
			"running after done": func(m *made) {
				m.ask(9, history.Ask{Op: "get", Task: "hash"})
				m.received(9.1, history.OK, history.Reply{Status: "running", Task: "hash", Attempt: 1})
			},
			"an earlier attempt": func(m *made) {
				m.ask(9, history.Ask{Op: "get", Task: "flaky"})
				m.received(9.1, history.OK, history.Reply{Status: "queued", Task: "flaky"})
			},
		},
		"a result is right, and from the attempt that the record names": {
			"the result of another task":    func(m *made) { m.of("plain").Result = result("hash", 1) },
			"the result of another attempt": func(m *made) { m.of("flaky").Result = result("flaky", 2) },
			"no result":                     func(m *made) { m.of("plain").Result = nil },
		},
		"nothing unrequested": {
			"a task that nobody asked for":   func(m *made) { m.record("new", "chaos.hash", "", "queued", "running", "done") },
			"a task that was refused":        func(m *made) { m.record("none", "chaos.hash", "", "queued", "cancelled") },
			"two tasks of one request":       func(m *made) { m.record("plain", "chaos.hash", "", "queued", "cancelled") },
			"a task with another action":     func(m *made) { m.of("plain").Action = "upper" },
			"a reply that nobody waited for": func(m *made) { m.last = 99; m.received(9, history.Stray, history.Reply{}) },
		},
		"same key, same task": {
			"two tasks with the key": func(m *made) {
				m.record("hash", "chaos.hash", "k", "queued", "running", "done")
				m.Store[len(m.Store)-1].Task = "two"
			},
			"two answers": func(m *made) {
				m.enqueue(8, "hash", "chaos.hash", "k")
				m.received(8.1, history.OK, history.Reply{Status: "done", Task: "plain", Attempt: 1, Result: result("plain", 1)})
			},
		},
		"a task that is cancelling ends cancelled or done": {
			"it is queued again when its process dies": func(m *made) {
				m.ask(3, history.Ask{Op: "cancel", Task: "flaky"})
				m.received(3.1, history.OK, history.Reply{Status: "cancelling", Task: "flaky"})
				at := []float64{2, 2.2, 4, 4.1, 4.2, 4.9, 5}
				for i := range at {
					m.of("flaky").Entries[i].At = time.Unix(0, int64(at[i]*1e9)).UTC().Format(time.RFC3339Nano)
				}
			},
		},
		"no run after a final answer": {
			"it starts after it was answered as done": func(m *made) { m.ran("hash", 2, 8, history.Done) },
			"a worker starts another attempt": func(m *made) {
				m.ask(8, history.Ask{Op: "get", Task: "returned"})
				m.received(8.1, history.OK, history.Reply{Status: "done", Task: "returned", Attempt: 1, Result: result("returned", 1)})
				m.ran("returned", 2, 9, history.Done)
			},
			"it starts after it was cancelled": func(m *made) { m.ran("waiting", 1, 8, history.Done) },
		},
		"each attempt starts once, and its history has the start": {
			"twice":                            func(m *made) { m.ran("plain", 1, 11, history.Done) },
			"once more than it was given back": func(m *made) { m.ran("returned", 1, 11, history.Done) },
			"without a claim":                  func(m *made) { m.ran("plain", 2, 11, history.Done) },
			"of no known task":                 func(m *made) { m.without("plain") },
			"done by nobody":                   func(m *made) { m.Journal = m.Journal[2:] },
		},
		"only failures of the action count as failed attempts": {
			"a crash counts as a failure": func(m *made) { m.of("flaky").Entries[2].Status = "scheduled" },
			"failed too early": func(m *made) {
				r := m.of("flaky")
				r.Status, r.Code, r.Entries[7].Status = "failed", "action_failed", "failed"
			},
		},
		"only a poison task has crashed": {
			"an innocent one":               func(m *made) { m.of("flaky").Code = "crashed" },
			"an innocent one of a worker":   func(m *made) { m.of("returned").Code = "crashed" },
			"and a poison task is finished": func(m *made) { m.of("poison").Code = "action_failed" },
		},
		"errors are honest": {
			"an internal error": func(m *made) { m.refuse(9, "internal") },
			"unavailable when all is well": func(m *made) {
				m.refuse(100, "unavailable")
			},
			"a key conflicts with itself": func(m *made) {
				m.enqueue(9, "hash", "chaos.hash", "k")
				m.received(9.1, history.Fail, history.Reply{Status: "error", Code: "key_conflict", Task: "hash"})
			},
		},
	}
}

// append adds an entry to a history, and makes the row agree with it.
func (m *made) append(task, state string, attempt int) {
	r := m.of(task)
	if last := r.Entries[len(r.Entries)-1].Status; last == "done" {
		r.Generation++
	}
	r.Status, r.Attempt = state, attempt
	r.Entries = append(r.Entries, history.Entry{Status: state, Attempt: attempt, Seq: len(r.Entries) + 1})
}

func (m *made) refuse(at float64, code string) {
	m.ask(at, history.Ask{Op: "queues"})
	m.received(at+0.1, history.Fail, history.Reply{Status: "error", Code: code})
}

func TestEachBrokenPromiseIsNoticed(t *testing.T) {
	t.Parallel()
	all := breaks()
	for _, promise := range check.Promises() {
		if len(all[promise]) == 0 {
			t.Errorf("no run breaks the promise %q", promise)
		}
		for name, break_ := range all[promise] {
			t.Run(promise+": "+name, func(t *testing.T) {
				t.Parallel()
				m := clean()
				break_(m)
				found := check.Run(&m.Run).Violations
				if !slices.ContainsFunc(found, func(v check.Violation) bool { return v.Promise == promise }) {
					t.Errorf("it is not noticed; found was %v", found)
				}
			})
		}
	}
	if len(all) != len(check.Promises()) {
		t.Errorf("%d promises are broken, there are %d", len(all), len(check.Promises()))
	}
}
