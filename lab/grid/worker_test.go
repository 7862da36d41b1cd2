package grid_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"
)

// worker runs the action work, which returns its payload. Some payloads make it do something else once: "back" is given back,
// "die" ends its connection as if its process had died, and "hold" is held until another node has adopted it.
type worker struct {
	addr    string
	ended   chan struct{} // closed when the test has ended
	holds   chan struct{} // closed when it holds "hold"
	payload map[string]string
	did     map[string]bool // what is done once, and was
}

// work starts a worker, which connects again and again until the test ends.
func work(t testing.TB, addr string) *worker {
	w := &worker{addr: addr, ended: make(chan struct{}), holds: make(chan struct{}), payload: map[string]string{}, did: map[string]bool{}}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for !w.isOver() {
			if w.serve() {
				w.did[`"die"`] = true // its node may have died: a second death would count as a crash
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-w.ended:
			}
		}
	}()
	t.Cleanup(func() {
		close(w.ended)
		<-stopped
	})
	return w
}

func (w *worker) isOver() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// awaitHold waits until the worker holds "hold".
func (w *worker) awaitHold() bool {
	select {
	case <-w.holds:
		return true
	case <-time.After(patience):
		return false
	}
}

// serve uses one connection until it ends. The worker names what it holds. serve reports whether the node has ended it.
func (w *worker) serve() bool {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-w.ended:
			conn.Close()
		case <-over:
		}
	}()
	hold := []string{}
	for lease := range w.payload {
		hold = append(hold, lease)
	}
	names, _ := json.Marshal(hold)
	fmt.Fprintf(conn, `{"id":"w","op":"work","actions":["work"],"worker":"w1","slots":2,"grace":0,"hold":%s}`+"\n", names)
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return true
		}
		var r struct {
			ID            any
			Status, Lease string
			Payload       json.RawMessage
			Held, Lost    []string
		}
		switch _ = json.Unmarshal(line, &r); {
		case r.Status == "error" && r.ID == "w" || r.Status == "goaway":
			return true
		case r.Status == "ready":
			for _, lease := range r.Lost {
				delete(w.payload, lease)
			}
			for _, lease := range r.Held {
				w.answer(conn, lease)
			}
		case r.Status == "running":
			w.payload[r.Lease] = string(r.Payload)
			if !w.run(conn, r.Lease) {
				return false
			}
		case r.Lease != "" && r.Status != "cancelling":
			delete(w.payload, r.Lease)
		}
	}
}

// run does what a payload asks for. It returns false if the worker has died.
func (w *worker) run(conn net.Conn, lease string) bool {
	payload := w.payload[lease]
	first := !w.did[payload]
	w.did[payload] = true
	switch {
	case payload == `"hold"` && first:
		close(w.holds)
	case payload == `"back"` && first:
		fmt.Fprintf(conn, `{"op":"release","lease":%q}`+"\n", lease)
	case payload == `"die"` && first:
		clear(w.payload)
		return false
	default:
		w.answer(conn, lease)
	}
	return true
}

func (w *worker) answer(conn net.Conn, lease string) {
	fmt.Fprintf(conn, `{"op":"done","lease":%q,"data":%s}`+"\n", lease, w.payload[lease])
}

// remote asks for what a worker runs. It ends early when the connection is cut.
func (s *session) remote(t testing.TB) {
	list := []*ask{
		{action: "work", payload: `"w1"`, options: `,"wait":true`}, {action: "work", payload: `"w2"`}, {action: "work", payload: `"back"`},
		{action: "work", payload: `"die"`}, {action: "work", payload: `"w3"`, key: "kw"},
	}
	if s.enqueue(t, list...) {
		for _, a := range list {
			if !s.finish(t, a) {
				break
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(s.asks)
}
