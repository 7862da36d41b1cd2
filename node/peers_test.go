package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// cluster starts nodes n1, n2, … that share a store and have workers of their own, as nodes of several processes do. edit
// may change the configuration of the node with a number, which begins at 1.
func cluster(t *testing.T, nodes int, edit func(i int, cfg *node.Config)) []*stage {
	t.Helper()
	return clusterOn(t, store.NewMemory(store.MemoryConfig{}), nodes, edit)
}

// clusterOn is cluster with a store.
func clusterOn(t *testing.T, s store.Store, nodes int, edit func(i int, cfg *node.Config)) []*stage {
	t.Helper()
	list := make([]*stage, nodes)
	for i := range list {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := withStore(s)
		cfg.Name, cfg.Listener = fmt.Sprintf("n%d", i+1), listener
		cfg.Peers.Advertise = listener.Addr().String()
		if edit != nil {
			edit(i+1, &cfg)
		}
		list[i] = openStage(t, cfg)
	}
	return list
}

// answerRuns has a worker answer each push with its own name, until its connection ends.
func answerRuns(v *visitor, name string) {
	for {
		text, err := v.in.ReadString('\n')
		if err != nil {
			return
		}
		if _, lease, found := strings.Cut(text, `"lease":"`); found && strings.Contains(text, `"status":"running"`) {
			lease, _, _ = strings.Cut(lease, `"`)
			if _, err := fmt.Fprintf(v.conn, `{"op":"done","lease":%q,"data":%q}`+"\n", lease, name); err != nil {
				return
			}
		}
	}
}

// runsResize waits until a direct run of the action resize succeeds on a node.
func runsResize(t *testing.T, addr, want string) {
	t.Helper()
	v := visit(t, addr)
	testenv.Eventually(t, patience, func() error {
		v.send(`{"id":1,"action":"resize"}` + "\n")
		text, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		if text != `{"id":1,"status":"done","result":{"ok":true,"data":"`+want+`"}}` {
			return errors.New(text)
		}
		return nil
	})
}

func TestARunReachesAWorkerOnAnotherNode(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, nil)
	w := work(t, nodes[1].addr, "w1", `,"slots":8`)
	w.read("ready", "")
	go answerRuns(w, "w1")
	for _, n := range nodes {
		runsResize(t, n.addr, "w1")
	}
}

func TestARunOverHTTPReachesAWorkerOnAnotherNode(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2, nil)
	w := work(t, nodes[1].addr, "w1", `,"slots":8`)
	w.read("ready", "")
	go answerRuns(w, "w1")
	runsResize(t, nodes[0].addr, "w1")
	if status, body := runOverHTTP(t, nodes[0].addr, `{"id":1,"action":"resize"}`); status != http.StatusOK || !strings.Contains(body, `{"ok":true,"data":"w1"}`) {
		t.Errorf("got %d %s", status, body)
	}
	// A client that sends the mark of a node is only served by the node that it asks.
	if status, body := runOverHTTP(t, nodes[0].addr, `{"id":1,"action":"resize","passed_on":"missing"}`); status != http.StatusNotFound {
		t.Errorf("with the mark: got %d %s", status, body)
	}
	v := visit(t, nodes[0].addr)
	v.send(`{"id":1,"action":"resize","passed_on":"missing"}` + "\n")
	v.expect(`{"id":1,"status":"error","code":"not_found",…`)
	v.send(`{"id":2,"action":"resize","passed_on":"full"}` + "\n")
	v.expect(`{"id":2,"status":"error","code":"not_found",…`)
}

// runOverHTTP sends a run over HTTP.
func runOverHTTP(t *testing.T, addr, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/run", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// gate is an action that tells on which node it was entered, and then waits.
type gate struct {
	entered chan string
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan string, 100), make(chan struct{})} }

// on returns the action of a node.
func (g *gate) on(name string) actions.Action {
	action := actions.New("gate", func(ctx context.Context, _ *actions.Call) (any, error) {
		g.entered <- name
		select {
		case <-g.open:
			return name, nil
		case <-ctx.Done():
			g.entered <- name + " cancelled"
			return nil, ctx.Err()
		}
	})
	action.Slow = true
	return action
}

// next returns what the gate tells next.
func (g *gate) next(t *testing.T) string {
	t.Helper()
	select {
	case name := <-g.entered:
		return name
	case <-time.After(patience):
		t.Fatal("nothing is entered")
		return ""
	}
}

// gates returns a cluster whose nodes have the action gate and two slots each, when all know each other.
func gates(t *testing.T, nodes int, edit func(i int, cfg *node.Config)) ([]*stage, *gate) {
	t.Helper()
	g := newGate()
	list := cluster(t, nodes, func(i int, cfg *node.Config) {
		cfg.Actions = []actions.Action{g.on(fmt.Sprintf("n%d", i)), actions.New(fmt.Sprintf("only%d", i), func(context.Context, *actions.Call) (any, error) { return i, nil })}
		cfg.Limits.Slots = 2
		if edit != nil {
			edit(i, cfg)
		}
	})
	for from := range list {
		for to := range list {
			knows(t, list[from].addr, to+1)
		}
	}
	return list, g
}

// knows waits until a node passes runs on to another one.
func knows(t *testing.T, addr string, other int) {
	t.Helper()
	v := visit(t, addr)
	testenv.Eventually(t, patience, func() error {
		v.send(fmt.Sprintf(`{"id":1,"action":"only%d"}`+"\n", other))
		text, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		if text != fmt.Sprintf(`{"id":1,"status":"done","result":{"ok":true,"data":%d}}`, other) {
			return errors.New(text)
		}
		return nil
	})
}

func TestOneConnectionUsesThreeNodesWhileTheirSlotsAreTaken(t *testing.T) {
	t.Parallel()
	nodes, g := gates(t, 3, nil)
	v := visit(t, nodes[0].addr)
	for id := range 8 {
		v.send(fmt.Sprintf(`{"id":%d,"action":"gate"}`+"\n", id))
	}
	count := map[string]int{}
	for range 6 {
		count[g.next(t)]++
	}
	if count["n1"] != 2 || count["n2"] != 2 || count["n3"] != 2 {
		t.Errorf("they run on %v, want two on each node", count)
	}
	// Nobody has a slot now, so the others wait where they are.
	hostile := visit(t, nodes[1].addr)
	hostile.send(`{"id":1,"action":"gate","passed_on":"full"}` + "\n")
	hostile.expect(`{"id":1,"status":"error","code":"overloaded","error":"this node has no free slot either","limit":"slots"}`)
	close(g.open)
	for range 8 {
		v.read("done", "")
	}
}

func TestARunThatWasPassedOnIsCancelledWithItsClient(t *testing.T) {
	t.Parallel()
	nodes, g := gates(t, 2, func(i int, cfg *node.Config) {
		if i == 1 {
			cfg.Actions = cfg.Actions[1:]
		}
	})
	v := visit(t, nodes[0].addr)
	v.send(`{"id":1,"action":"gate"}` + "\n")
	if on := g.next(t); on != "n2" {
		t.Fatalf("it runs on %s", on)
	}
	v.reset()
	if told := g.next(t); told != "n2 cancelled" {
		t.Errorf("got %s", told)
	}
	knows(t, nodes[0].addr, 2) // the connection to the other node is still used
}

func TestANodeThatDrainsAnswersWhatWasPassedToIt(t *testing.T) {
	t.Parallel()
	nodes, g := gates(t, 2, func(i int, cfg *node.Config) {
		if i == 1 {
			cfg.Actions = cfg.Actions[1:]
		}
	})
	v := visit(t, nodes[0].addr)
	v.send(`{"id":1,"action":"gate"}` + "\n")
	g.next(t)
	nodes[1].stop()
	testenv.Eventually(t, patience, func() error { // it is not asked any more
		v := visit(t, nodes[0].addr)
		v.send(`{"id":2,"action":"only2"}` + "\n")
		if text, err := v.next(); err != nil || !strings.Contains(text, `"ok":false`) {
			return fmt.Errorf("got %s, %v", text, err)
		}
		return nil
	})
	close(g.open)
	v.expect(`{"id":1,"status":"done","result":{"ok":true,"data":"n2"}}`)
}

func TestARunMakesOneHop(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	nodes := clusterOn(t, s, 2, nil)
	// The store says that each of them has the action, and neither has.
	for i, n := range nodes {
		row := task.Node{Name: fmt.Sprintf("ghost%d", i), Actions: []string{"ghost"}, Queues: []string{"*"}, Slots: 8, Free: 8, Address: n.addr, Started: time.Now()}
		if err := s.Beat(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	v := visit(t, nodes[0].addr)
	runs := 0
	testenv.Eventually(t, patience, func() error {
		runs++
		v.send(`{"id":1,"action":"ghost"}` + "\n")
		text, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(text, `does not have it any more"}}`) {
			return errors.New(text)
		}
		return nil
	})
	const passedOn = `posta_runs_passed_on_total{cause="missing"}`
	first, err := strconv.Atoi(metric(t, nodes[0].addr, passedOn))
	if err != nil || first < 2 || first > 2*runs {
		t.Errorf("n1 has passed on %d runs, %v; want 2, and as many for each of %d runs at most", first, err, runs)
	}
	if got := metric(t, nodes[1].addr, passedOn); got != "0" {
		t.Errorf("n2 has passed on %s runs, want none", got)
	}
}

func TestARefusalSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	for _, row := range []task.Node{
		{Name: "silent", Actions: []string{"quiet"}},
		{Name: "dead", Actions: []string{"lost"}, Address: dead.Addr().String()},
	} {
		row.Queues, row.Slots, row.Started = []string{"*"}, 1, time.Now()
		if err := s.Beat(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	v := visit(t, clusterOn(t, s, 1, nil)[0].addr)
	for action, want := range map[string]string{
		"quiet": `action quiet is not on this node; node silent has it, but does not advertise an address to other nodes`,
		"lost":  `action lost is not on this node, and node dead, which has it, cannot be reached at ` + dead.Addr().String() + `…`,
		"none":  `unknown action none: no live node has it`,
	} {
		v.send(fmt.Sprintf(`{"id":1,"action":%q}`+"\n", action))
		v.expect(`{"id":1,"status":"done","result":{"ok":false,"error":"` + want + `"}}`)
	}
}

func TestNodesSendEachOtherTheirToken(t *testing.T) {
	t.Parallel()
	tokens := stageTokens(t)
	nodes := cluster(t, 2, func(i int, cfg *node.Config) {
		cfg.Tokens, cfg.Peers.Token = tokens, "correct-horse-battery"
		if i == 2 {
			cfg.Actions = []actions.Action{actions.New("resize", func(context.Context, *actions.Call) (any, error) { return "n2", nil })}
			cfg.Peers.Token = "a wrong one for the others"
		}
	})
	v := visit(t, nodes[0].addr)
	v.send(`{"id":0,"op":"auth","token":"correct-horse-battery"}` + "\n")
	v.read("done", "0")
	testenv.Eventually(t, patience, func() error {
		v.send(`{"id":1,"action":"resize"}` + "\n")
		if text, err := v.next(); err != nil || text != `{"id":1,"status":"done","result":{"ok":true,"data":"n2"}}` {
			return fmt.Errorf("got %s, %v", text, err)
		}
		return nil
	})
	v = visit(t, nodes[1].addr)
	v.send(`{"id":0,"op":"auth","token":"correct-horse-battery"}` + "\n")
	v.read("done", "0")
	testenv.Eventually(t, patience, func() error {
		v.send(`{"id":1,"action":"upper"}` + "\n")
		if text, err := v.next(); err != nil || !strings.Contains(text, "cannot be reached") || !strings.Contains(text, "unauthenticated") {
			return fmt.Errorf("got %s, %v", text, err)
		}
		return nil
	})
}

// metric returns the value of a metric of a node.
func metric(t *testing.T, addr, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(metricsOf(t, addr), "\n"+name+" ")
	if !found {
		t.Fatalf("there is no %s", name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return value
}
