package grid_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds each wait for a reply. Nothing is measured by it.
const patience = 2 * time.Minute

// ask is an enqueue and all that was said about it.
type ask struct {
	id       int
	action   string
	payload  string // raw JSON, another one for each key or ask without a key
	key      string
	options  string // more fields of the line
	vanishes bool   // it is kept for a moment only

	task      string // as it was acknowledged; "" is not at all
	duplicate bool
	refused   string   // the code of a refusal
	finals    []string // as what it ended, one for each answer
	pushed    []string // likewise, on the connection of the enqueue
	cancelled string   // the reply to a cancel
	retried   bool     // a retry was acknowledged
}

// reply is a line that came back, as far as this test reads it.
type reply struct {
	ID        int
	Status    string
	Task      string
	Code      string
	Attempt   int
	Duplicate bool
	Cursor    string
	Result    struct {
		Queues []struct{ Scheduled, Queued, Running int64 }
	}
	text string
}

// session is a client that speaks by hand and remembers everything.
type session struct {
	mu      sync.Mutex // guards all below; conn is written to without it
	conn    net.Conn
	asks    []*ask
	replies map[int][]reply
	next    int
	cut     bool
}

func newSession() *session { return &session{replies: map[int][]reply{}} }

// dial opens a connection, beside or after those before.
func (s *session) dial(t testing.TB, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.mu.Lock()
	s.conn, s.cut = conn, false
	s.mu.Unlock()
	go s.read(conn)
}

// read takes replies until the connection ends.
func (s *session) read(conn net.Conn) {
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		var r reply
		s.mu.Lock()
		if err != nil {
			s.cut = s.cut || s.conn == conn
			s.mu.Unlock()
			return
		}
		if json.Unmarshal(line, &r) == nil {
			r.text = strings.TrimSpace(string(line))
			s.replies[r.ID] = append(s.replies[r.ID], r)
		}
		s.mu.Unlock()
	}
}

// until waits for something to be so; false means that the connection was cut before.
func (s *session) until(t testing.TB, what string, is func() bool) bool {
	deadline := time.Now().Add(patience)
	for {
		s.mu.Lock()
		ok, cut := is(), s.cut
		s.mu.Unlock()
		switch {
		case ok:
			return true
		case cut:
			return false
		case time.Now().After(deadline):
			t.Errorf("not within %v: %s", patience, what)
			return false
		}
		<-time.After(2 * time.Millisecond)
	}
}

// call sends a line and waits for its first reply; false means that there was none.
func (s *session) call(t testing.TB, line string, args ...any) (reply, bool) {
	s.mu.Lock()
	s.next++
	id := s.next
	s.mu.Unlock()
	line = fmt.Sprintf(line, args...)
	_, err := fmt.Fprintf(s.conn, "{\"id\":%d,%s}\n", id, line)
	if err != nil || !s.until(t, "a reply to "+line, func() bool { return len(s.replies[id]) > 0 }) {
		return reply{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replies[id][0], true
}

// enqueue sends asks in one write, and waits until each is answered.
func (s *session) enqueue(t testing.TB, list ...*ask) bool {
	var lines strings.Builder
	s.mu.Lock()
	for _, a := range list {
		s.next++
		a.id = s.next
		s.asks = append(s.asks, a)
		fmt.Fprintf(&lines, `{"id":%d,"op":"enqueue","action":%q,"payload":%s`, a.id, a.action, a.payload)
		if a.key != "" {
			fmt.Fprintf(&lines, `,"key":%q`, a.key)
		}
		lines.WriteString(a.options + "}\n")
	}
	s.mu.Unlock()
	_, err := s.conn.Write([]byte(lines.String()))
	return s.until(t, "answers to an enqueue", func() bool {
		return s.note(list) == 0
	}) && err == nil
}

// note takes over what was answered, and counts what was not. The caller holds mu.
func (s *session) note(list []*ask) (open int) {
	for _, a := range list {
		a.pushed = nil
		for i, r := range s.replies[a.id] {
			final := r.Status == "done" || r.Status == "failed" || r.Status == "cancelled"
			switch {
			case r.Status == "error":
				a.refused = r.Code
			case final:
				a.task, a.duplicate = r.Task, a.duplicate || r.Duplicate
				a.pushed = append(a.pushed, r.Status)
			case i == 0:
				a.task, a.duplicate = r.Task, r.Duplicate
			}
		}
		if len(s.replies[a.id]) == 0 {
			open++
		}
	}
	return open
}

// finish waits for a task to be finished.
func (s *session) finish(t testing.TB, a *ask) bool {
	if a.task == "" {
		return true
	}
	r, ok := s.call(t, `"op":"wait","task":%q`, a.task)
	if !ok || r.Code == "not_found" && a.vanishes {
		return ok
	}
	switch r.Status {
	case "done", "failed", "cancelled":
		s.mu.Lock()
		a.finals = append(a.finals, r.Status)
		s.mu.Unlock()
		return true
	}
	t.Errorf("the wait for %s was answered %s", a.task, r.text)
	return false
}

// cancel cancels a task, and tries again when it was refused because the store had failed.
func (s *session) cancel(t testing.TB, a *ask) bool {
	for a.task != "" {
		r, ok := s.call(t, `"op":"cancel","task":%q`, a.task)
		if !ok {
			return false
		}
		if r.Status != "error" {
			a.cancelled = r.Status
		}
		if r.Code != "unavailable" {
			break
		}
	}
	return true
}

// retry retries a task.
func (s *session) retry(t testing.TB, a *ask) bool {
	if a.task == "" {
		return true
	}
	r, ok := s.call(t, `"op":"retry","task":%q`, a.task)
	a.retried = ok && r.Status == "queued"
	return ok
}

// running waits until a task runs, or has run.
func (s *session) running(t testing.TB, a *ask) bool {
	for a.task != "" {
		r, ok := s.call(t, `"op":"get","task":%q`, a.task)
		if !ok || r.Status != "queued" && r.Status != "scheduled" {
			return ok
		}
		<-time.After(5 * time.Millisecond)
	}
	return true
}

// gone waits until a task that is kept for a moment has been deleted.
func (s *session) gone(t testing.TB, a *ask) bool {
	for a.task != "" {
		r, ok := s.call(t, `"op":"get","task":%q`, a.task)
		if !ok || r.Code == "not_found" {
			return ok
		}
		<-time.After(20 * time.Millisecond)
	}
	return true
}

// large is a payload that has no place in a row.
func large(letter string) string { return `"` + strings.Repeat(letter, 100<<10) + `"` }

// endless marks what would be left at the end of the test.
const endless = `,"meta":{"endless":"yes"}`

// mix does one thing of each kind. It ends early when the connection is cut.
func (s *session) mix(t testing.TB) {
	far := &ask{action: "upper", payload: `"far"`, options: `,"delay":3600` + endless}
	bad := &ask{action: "sleep", payload: `"bad"`, options: `,"wait":true`}
	slow := &ask{action: "sleep", payload: "3599.5", options: `,"timeout":0.2,"max_attempts":2`}
	brief := &ask{action: "upper", payload: `"brief"`, options: `,"keep":0.1`, vanishes: true}
	first := []*ask{
		{action: "upper", payload: `"a"`, options: `,"wait":true,"meta":{"of":"grid"}`},
		{action: "upper", payload: `"b"`, key: "kb"},
		{action: "upper", payload: `"b"`, key: "kb"},
		{action: "sleep", payload: "0.31", options: `,"priority":"low"`},
		{action: "sleep", payload: "0.32", options: `,"wait":true`},
		{action: "upper", payload: `"c"`, options: `,"queue":"mail"`},
	}
	second := []*ask{
		{action: "upper", payload: `"d"`, options: `,"delay":0.2,"wait":true`},
		{action: "upper", payload: `"e"`, options: `,"expires":0.2,"queue":"held"`},
		{action: "echo", payload: large("f"), key: "kf", options: `,"wait":true`},
		far, bad, slow, brief,
	}
	third := []*ask{
		{action: "echo", payload: large("f"), key: "kf"},
		{action: "echo", payload: large("g"), options: `,"keep":0.1`, vanishes: true},
		{action: "upper", payload: `"h"`, key: "kh"},
	}
	long := &ask{action: "sleep", payload: "3598.5", options: endless}
	held := &ask{action: "upper", payload: `"held"`, options: `,"queue":"held","delay":3600` + endless} // a queue is there from its first task
	all := [][]*ask{{held}, first, second, third, {long}}
	steps := []func() bool{
		func() bool { return s.enqueue(t, held) },
		func() bool { _, ok := s.call(t, `"op":"pause","queue":"held"`); return ok },
		func() bool { return s.enqueue(t, first...) },
		func() bool { return s.enqueue(t, second...) },
		func() bool { return s.enqueue(t, third...) },
		func() bool { return s.cancel(t, far) && s.cancel(t, held) },
		func() bool { return s.enqueue(t, long) && s.running(t, long) && s.cancel(t, long) },
		func() bool { return s.finish(t, bad) && s.retry(t, bad) && s.finish(t, bad) },
		func() bool { return s.finish(t, second[1]) },
		func() bool { _, ok := s.call(t, `"op":"resume","queue":"held"`); return ok },
	}
	for _, list := range all {
		for _, a := range list {
			steps = append(steps, func() bool { return s.finish(t, a) })
		}
	}
	steps = append(steps, func() bool { return s.gone(t, brief) && s.gone(t, third[1]) })
	for _, step := range steps {
		if !step() {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(s.asks)
}

// settle brings everything to its end after a restart: it cancels what would wait for an hour,
// asks once more for what had a key, and waits until nothing is left to do.
func (s *session) settle(t testing.TB) {
	s.call(t, `"op":"resume","queue":"held"`)
	s.call(t, `"op":"cancel","filter":{"meta":{"endless":"yes"}}`)
	again := []*ask{
		{action: "upper", payload: `"b"`, key: "kb"}, {action: "echo", payload: large("f"), key: "kf"},
		{action: "upper", payload: `"h"`, key: "kh"},
	}
	if !s.enqueue(t, again...) {
		t.Errorf("the connection was cut after the restart")
		return
	}
	for {
		r, ok := s.call(t, `"op":"queues"`)
		if !ok {
			t.Errorf("the connection was cut while tasks were left")
			return
		}
		var left int64
		for _, q := range r.Result.Queues {
			left += q.Scheduled + q.Queued + q.Running
		}
		if left == 0 {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}
