package peer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/peer"
	"github.com/posta-tasks/posta/task"
)

// world has fake nodes, which answer lines as their functions say, and Peers that know them.
type world struct {
	*peer.Peers
	t     *testing.T
	known []task.Node
	nodes map[string]*fake // by address

	mu    sync.Mutex
	lines []string // what the fakes have received, without pings
}

// fake answers a run. "" means that it does not answer, and "reset" that it ends the connection.
type fake func(w *world, line string) string

// newWorld returns a world in which the nodes a, b and so on have the action resize.
func newWorld(t *testing.T, nodes ...fake) *world {
	w := &world{t: t, nodes: map[string]*fake{}}
	for i := range nodes {
		addr := string(rune('a'+i)) + ":1"
		w.nodes[addr] = &nodes[i]
		w.known = append(w.known, task.Node{Name: addr[:1], Actions: []string{"resize"}, Address: addr, Slots: 2, Free: 10 - i})
	}
	w.Peers = peer.New(peer.Config{
		Self: "self", Known: func() *[]task.Node { return &w.known }, Learn: func(context.Context) {}, Token: "correct-horse-battery",
		Dial: func(_ context.Context, addr string) (net.Conn, error) {
			if *w.nodes[addr] == nil {
				return nil, errors.New("connection refused")
			}
			near, far := net.Pipe()
			go w.serve(far, *w.nodes[addr])
			return near, nil
		},
	})
	return w
}

func (w *world) serve(conn net.Conn, answer fake) {
	defer conn.Close()
	for in := bufio.NewScanner(conn); in.Scan(); {
		line := in.Text()
		id, _, _ := strings.Cut(strings.TrimPrefix(line, `{"id":`), ",")
		var reply string
		switch {
		case strings.Contains(line, `"op":"auth"`), strings.Contains(line, `"op":"ping"`):
			reply = `"status":"done","result":{"ok":true}`
		default:
			w.mu.Lock()
			w.lines = append(w.lines, line)
			w.mu.Unlock()
			reply = answer(w, line)
		}
		switch reply {
		case "":
			continue
		case "reset":
			return
		}
		go fmt.Fprintf(conn, `{"id":%s,%s}`+"\n", id, reply)
	}
}

// received returns how often a text was received.
func (w *world) received(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(strings.Join(w.lines, "\n"), text)
}

// pass passes a run on.
func (w *world) pass(ctx context.Context, why task.PassedOn) string {
	w.t.Helper()
	route := w.Route("resize", why)
	if route == nil {
		return "no route"
	}
	passed := route(ctx, executor.Task{Action: []byte("resize"), Payload: []byte(`"x"`), Timeout: time.Minute})
	switch {
	case passed.Result != nil:
		return string(passed.Result)
	case passed.Refusal != nil:
		return string(passed.Refusal.Code)
	case passed.Busy:
		return "busy"
	case passed.Nowhere:
		return "nowhere"
	}
	return "given up"
}

func does(text string) fake { return func(*world, string) string { return text } }

var (
	succeeds = does(`"status":"done","result":{"ok":true,"data":1}`)
	fails    = does(`"status":"done","result":{"ok":false,"error":"too small"}`)
	lacks    = refuses(`"not_found","error":"this node does not have the action resize","field":"action"`)
	isFull   = refuses(`"overloaded","error":"this node has no free slot either","limit":"slots"`)
	resets   = does("reset")
	hangs    = does("")
)

func refuses(rest string) fake { return does(`"status":"error","code":` + rest) }

func TestWhatBecomesOfARunThatIsPassedOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		nodes []fake
		want  string
		runs  int // lines that the nodes receive
		full  string
	}{
		"it succeeds":                      {[]fake{succeeds}, `{"ok":true,"data":1}`, 1, `{"ok":true,"data":1}`},
		"it fails":                         {[]fake{fails}, `{"ok":false,"error":"too small"}`, 1, `{"ok":false,"error":"too small"}`},
		"the node is refused":              {[]fake{refuses(`"forbidden","error":"no"`)}, "forbidden", 1, "busy"},
		"the node has lost the action":     {[]fake{lacks}, "nowhere", 1, "busy"},
		"the first has lost the action":    {[]fake{lacks, succeeds}, `{"ok":true,"data":1}`, 2, "busy"},
		"the node has no room":             {[]fake{isFull}, "busy", 1, "busy"},
		"the node is drained":              {[]fake{refuses(`"draining","error":"no"`), succeeds}, `{"ok":true,"data":1}`, 2, "busy"},
		"the node is away":                 {[]fake{nil}, `{"ok":false,"error":"action resize is not on this node, and node a, which has it, cannot be reached at a:1: …`, 0, "busy"},
		"the first is away":                {[]fake{nil, succeeds}, `{"ok":true,"data":1}`, 1, "busy"},
		"the node dies during the run":     {[]fake{resets, succeeds}, `{"ok":false,"error":"the node that ran it has gone"}`, 1, `{"ok":false,"error":"the node that ran it has gone"}`},
		"there is no node with the action": {nil, "nowhere", 0, "no route"},
	} {
		for why, want := range map[task.PassedOn]string{task.PassedOnMissing: test.want, task.PassedOnFull: test.full} {
			t.Run(name+", "+string(why), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, test.nodes...)
					defer w.Close()
					got := w.pass(t.Context(), why)
					if got != want && !(strings.HasSuffix(want, "…") && strings.HasPrefix(got, strings.TrimSuffix(want, "…"))) {
						t.Errorf("got %s, want %s", got, want)
					}
					if n := w.received(`"passed_on":"` + string(why) + `"`); why == task.PassedOnMissing && n != test.runs {
						t.Errorf("%d lines are received, want %d", n, test.runs)
					}
				})
			})
		}
	}
}

func TestAnIdempotentRunGoesToAnotherNodeWhenItsNodeDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, resets, succeeds)
		defer w.Close()
		w.known[0].Idempotent = []string{"resize"}
		if got := w.pass(t.Context(), task.PassedOnMissing); got != `{"ok":true,"data":1}` {
			t.Errorf("got %s", got)
		}
	})
}

func TestANodeThatDoesNotAnswerIsGivenUpAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hangs)
		defer w.Close()
		began := time.Now()
		got := w.pass(t.Context(), task.PassedOnMissing)
		if got != `{"ok":false,"error":"timed out after 60s"}` || time.Since(began) < time.Minute || time.Since(began) > 2*time.Minute {
			t.Errorf("got %s after %v", got, time.Since(began))
		}
	})
}

func TestARunIsCancelledThereWhenItsClientGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hangs)
		defer w.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if got := w.pass(ctx, task.PassedOnMissing); got != "given up" {
			t.Errorf("got %s", got)
		}
		synctest.Wait()
		if w.received(`"op":"cancel","run":3`) != 1 {
			t.Errorf("the node has received %q", w.lines)
		}
	})
}

func TestANodeThatWasFullIsAskedAgainLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, isFull)
		defer w.Close()
		for range 3 {
			w.pass(t.Context(), task.PassedOnFull)
		}
		if n := w.received("run"); n != 1 {
			t.Errorf("it is asked %d times at once, want once", n)
		}
		if got := w.pass(t.Context(), task.PassedOnFull); got != "no route" {
			t.Errorf("got %s", got)
		}
		<-time.NewTimer(time.Second).C
		if got := w.pass(t.Context(), task.PassedOnFull); got != "busy" {
			t.Errorf("later it is not asked: %s", got)
		}
		began := time.Now() // a run that can run nowhere else waits for its turn to ask
		if got := w.pass(t.Context(), task.PassedOnMissing); got != "busy" || time.Since(began) == 0 {
			t.Errorf("got %s after %v", got, time.Since(began))
		}
	})
}

func TestANodeGetsNoMoreRunsThanItHasSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hangs)
		defer w.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		for range 2 {
			runs.Go(func() { w.pass(ctx, task.PassedOnFull) })
		}
		synctest.Wait()
		if got := w.pass(ctx, task.PassedOnFull); got != "no route" {
			t.Errorf("the third: %s", got)
		}
		cancel()
		runs.Wait()
	})
}
