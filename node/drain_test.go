package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/task"
)

const goawayDraining = `{"id":null,"status":"goaway","code":"draining","retry_after":0}`

// draining is a node whose drain is under test.
type draining struct {
	t     *testing.T
	addr  string
	stop  context.CancelFunc
	ended chan error
	gate  chan bool // ends one task of the action gate
	begun chan bool // receives when a task of the action gate begins
}

// startDraining starts a node with the actions gate, which ends with its context, and deaf,
// which ignores its context.
func startDraining(t *testing.T, cfg node.Config) *draining {
	t.Helper()
	d, n := newDraining(t, cfg)
	d.run(n)
	return d
}

// run runs the node until the test stops it.
func (d *draining) run(n *node.Node) {
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	go func() { d.ended <- n.Run(ctx) }()
	d.t.Cleanup(func() {
		d.stop()
		close(d.gate)
	})
}

// newDraining returns the node of startDraining without running it.
func newDraining(t *testing.T, cfg node.Config) (*draining, *node.Node) {
	t.Helper()
	d := &draining{t: t, ended: make(chan error, 1), gate: make(chan bool, 100), begun: make(chan bool, 100)}
	wait := func(ctx context.Context, _ *actions.Call) (any, error) {
		d.begun <- true
		select {
		case <-d.gate:
			return "through", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	deaf := func(context.Context, *actions.Call) (any, error) { return wait(context.Background(), nil) }
	cfg.Actions = append(actions.Builtin(), actions.Action{Name: "gate", Slow: true, Run: wait}, actions.Action{Name: "deaf", Slow: true, Run: deaf})
	if cfg.Listener == nil {
		cfg.Listen = "127.0.0.1:0"
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.addr = n.Addr().String()
	return d, n
}

// longDrain is the drain timeout of tests in which the drain must end earlier by itself.
const longDrain = 10 * patience

// wantEnded waits until Run returns nil.
func (d *draining) wantEnded() {
	d.t.Helper()
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		d.t.Fatal("Run did not return")
	}
}

// get requests a path on a new connection.
func (d *draining) get(path string) int {
	d.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + d.addr + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// untilStatus polls a path until it answers with a status.
func (d *draining) untilStatus(path string, status int) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); d.get(path) != status; {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s does not answer %d", path, status)
		}
	}
}

// untilClosed polls until connections are refused.
func (d *draining) untilClosed() {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", d.addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = conn.Close()
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the listener does not close: %v", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func drainLine(id int, action string) string {
	return fmt.Sprintf(`{"id":%d,"action":%q,"payload":1}`+"\n", id, action)
}

func drainReply(id int) string {
	return fmt.Sprintf(`{"id":%d,"status":"done","result":{"ok":true,"data":1}}`, id)
}

func TestANodeWithoutClientsStopsAtOnce(t *testing.T) {
	t.Parallel()
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Limits: task.Limits{DrainDelay: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := n.Run(stopped); err != nil { // with the drain delay, this would take an hour
		t.Error(err)
	}
}

// TestADrainAnswersAllReceivedRequests checks each step of a drain: the node is not ready, the
// delay, goaway, the replies to received requests, the end.
func TestADrainAnswersAllReceivedRequests(t *testing.T) {
	t.Parallel()
	const delay = 10 * time.Second // enough for the requests of this test
	d := startDraining(t, node.Config{Limits: task.Limits{DrainDelay: delay, DrainTimeout: longDrain}})
	quiet, busy, half, silent := visit(t, d.addr), visit(t, d.addr), visit(t, d.addr), visit(t, d.addr)
	busy.send(drainLine(1, "gate"))
	half.send(drainLine(2, "gate"))
	half.finish()
	<-d.begun
	<-d.begun
	if d.get("/readyz") != http.StatusOK {
		t.Error("the node is not ready")
	}
	begun := time.Now()
	d.stop()
	d.untilStatus("/readyz", http.StatusServiceUnavailable) // before the listener closes
	// During the delay, clients notice nothing.
	newcomer := visit(t, d.addr)
	for _, v := range []*visitor{quiet, newcomer} {
		v.send(drainLine(3, "echo"))
		v.expect(drainReply(3))
	}
	if d.get("/healthz") != http.StatusOK {
		t.Error("the node is not alive while it drains")
	}
	d.untilClosed()
	if took := time.Since(begun); took < delay {
		t.Errorf("the listener closed after %s, before the end of the delay", took)
	}
	for _, v := range []*visitor{quiet, busy, half, silent, newcomer} {
		v.expect(goawayDraining)
	}
	busy.send(drainLine(4, "echo")) // sent before the client has read goaway
	busy.expect(drainReply(4))
	for _, v := range []*visitor{quiet, silent, newcomer} {
		v.expectEnd()
	}
	select {
	case err := <-d.ended:
		t.Fatalf("Run returned %v although requests are open", err)
	default:
	}
	d.gate <- true
	d.gate <- true
	busy.expect(`{"id":1,"status":"done","result":{"ok":true,"data":"through"}}`)
	half.expect(`{"id":2,"status":"done","result":{"ok":true,"data":"through"}}`)
	half.expectEnd()
	busy.expectEnd()
	d.wantEnded()
}

// TestConnectionsInTheBacklogAreServedDuringTheDrain connects and sends before a node runs whose
// context has already ended.
func TestConnectionsInTheBacklogAreServedDuringTheDrain(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients []*visitor
	for id := range 30 {
		v := visit(t, listener.Addr().String())
		if id%3 > 0 {
			v.send(drainLine(id, "echo"))
		}
		clients = append(clients, v)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := node.New(node.Config{Listener: listener, Limits: task.Limits{DrainTimeout: longDrain}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for id, v := range clients {
		answered, goodbyes := id%3 == 0, 0
		for {
			line, err := v.next()
			if err != nil {
				break
			}
			switch line {
			case drainReply(id):
				answered = true
			case goawayDraining:
				goodbyes++
			default:
				t.Errorf("client %d got %s", id, line)
			}
		}
		if !answered || goodbyes != 1 {
			t.Errorf("client %d: answered %t, %d goodbyes", id, answered, goodbyes)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestSilentConnectionsDoNotDelayTheDrain(t *testing.T) {
	t.Parallel()
	d := startDraining(t, node.Config{Limits: task.Limits{DrainTimeout: longDrain}})
	var silent []*visitor
	for range 20 {
		silent = append(silent, visit(t, d.addr))
	}
	half := visit(t, d.addr)
	half.send(`{"id":1,"act`)
	d.untilStatus("/readyz", http.StatusOK) // by then the port has accepted all earlier connections
	d.stop()
	half.expect(goawayDraining)
	half.send(`ion":"echo","payload":1}` + "\n") // the rest of an incomplete line
	half.expect(drainReply(1))
	for _, v := range silent {
		v.expect(goawayDraining)
		v.expectEnd()
	}
	half.expectEnd()
	d.wantEnded()
}

// TestAFirstLineThatCrossesTheGoawayIsAnsweredInFull sends the first line of a connection when
// the node drains; until then the connection had sent nothing and had no door.
func TestAFirstLineThatCrossesTheGoawayIsAnsweredInFull(t *testing.T) {
	t.Parallel()
	d := startDraining(t, node.Config{Limits: task.Limits{DrainTimeout: longDrain}})
	var silent []*visitor
	for range 10 {
		silent = append(silent, visit(t, d.addr))
	}
	d.untilStatus("/readyz", http.StatusOK)
	d.stop()
	for _, v := range silent {
		v.expect(goawayDraining)
		v.send(drainLine(1, "gate"))
	}
	for range silent {
		d.gate <- true
	}
	for _, v := range silent {
		v.expect(`{"id":1,"status":"done","result":{"ok":true,"data":"through"}}`)
	}
	d.wantEnded()
}

func TestTheDrainTimeoutCancelsRunningTasks(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"gate", "deaf"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			d := startDraining(t, node.Config{Limits: task.Limits{DrainTimeout: 500 * time.Millisecond, Slots: 2}})
			var clients []*visitor
			for range 3 {
				v := visit(t, d.addr)
				v.send(drainLine(1, action) + drainLine(2, action) + drainLine(3, action))
				clients = append(clients, v)
			}
			clients[0].finish()
			web := visit(t, d.addr)
			body := fmt.Sprintf(`{"action":%q}`, action)
			web.send(fmt.Sprintf("POST /v1/run HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", d.addr, len(body), body))
			<-d.begun
			<-d.begun
			d.stop()
			d.wantEnded()
		})
	}
}

func TestAStuckActionDoesNotDelayTheDrain(t *testing.T) {
	t.Parallel()
	d := startDraining(t, node.Config{Limits: task.Limits{DrainTimeout: longDrain, StuckSlots: 1, Slots: 1}})
	v := visit(t, d.addr)
	for id := range 2 {
		v.send(fmt.Sprintf(`{"id":%d,"action":"deaf","timeout":0.05}`+"\n", id))
		v.expect(fmt.Sprintf(`{"id":%d,"status":"done","result":{"ok":false,"error":"timed out after 0.05s"}}`, id))
	}
	d.untilStatus("/readyz", http.StatusServiceUnavailable) // more tasks are stuck than slots are replaced
	v.send(drainLine(5, "echo"))
	v.expect(drainReply(5))
	d.gate <- true
	d.untilStatus("/readyz", http.StatusOK)
	d.stop()
	d.wantEnded()
}

func TestAReceivedHTTPRequestIsAnsweredDuringTheDrain(t *testing.T) {
	t.Parallel()
	d := startDraining(t, node.Config{Limits: task.Limits{DrainTimeout: longDrain}})
	answer := make(chan string, 1)
	go func() {
		response, err := http.Post("http://"+d.addr+"/v1/run", "application/json", strings.NewReader(`{"action":"gate"}`))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answer <- fmt.Sprint(response.StatusCode, " ", string(body), err)
	}()
	<-d.begun
	d.stop()
	d.untilClosed()
	d.gate <- true
	if got := <-answer; !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"through"`) {
		t.Error(got)
	}
	d.wantEnded()
}

func TestASecondRunIsAnError(t *testing.T) {
	t.Parallel()
	d, n := newDraining(t, node.Config{})
	d.run(n)
	d.stop()
	d.wantEnded()
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "already called") {
		t.Errorf("the second Run returned %v", err)
	}
}

func TestRunReturnsAnErrorWhenItsListenerIsClosed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := startDraining(t, node.Config{Listener: listener, Limits: task.Limits{DrainTimeout: 5 * time.Second}})
	v := visit(t, d.addr)
	v.send(drainLine(1, "gate"))
	<-d.begun
	_ = listener.Close()
	v.expect(goawayDraining)
	d.gate <- true // the received request is answered all the same
	v.expect(`{"id":1,"status":"done","result":{"ok":true,"data":"through"}}`)
	v.finish()
	v.expectEnd()
	select {
	case err := <-d.ended:
		if err == nil || strings.Contains(err.Error(), "%!") {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		t.Error("Run did not return")
	}
}

// TestNoAcceptedConnectionIsDroppedWhileThePortCloses connects all the time: each client either
// cannot connect or is answered.
func TestNoAcceptedConnectionIsDroppedWhileThePortCloses(t *testing.T) {
	t.Parallel()
	d := startDraining(t, node.Config{Limits: task.Limits{DrainDelay: 2 * time.Second, DrainTimeout: longDrain}})
	served, cut := 0, 0
	for {
		if served == 1 {
			d.stop() // on a busy machine, the whole delay may pass before the next client
		}
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			break
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		text, err := talk(conn, drainLine(7, "echo"))
		switch {
		case err != nil && !strings.Contains(text, "}"):
			cut++ // the kernel may accept a connection between the last accept and the close
		case !strings.Contains(text, drainReply(7)):
			t.Errorf("a client got %q, %v", text, err)
		default:
			served++
		}
	}
	if served == 0 || cut > 1 {
		t.Errorf("%d clients were served, %d were cut off", served, cut)
	}
	d.wantEnded()
}

// talk sends a text, closes its write side, and returns everything that it receives.
func talk(conn net.Conn, text string) (string, error) {
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(conn)
	return string(all), err
}
