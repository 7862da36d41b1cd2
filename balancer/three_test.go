package balancer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/client"
)

// The tests of this file check that Nginx, HAProxy and the built-in balancer keep the same
// promises, with real nodes.

const pong = `{"id":1,"status":"done","result":{"ok":true,"data":"pong"}}`

func TestConnectionsSpreadOverAllNodes(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		addr := c.start(t, startThreeNodes(t).addrs, false)
		count := map[string]int{}
		for range 300 {
			name, err := connect(t, addr).node()
			if err != nil {
				t.Fatal(err)
			}
			count[name]++
		}
		if len(count) != 3 {
			t.Fatalf("connections went to %d nodes: %v", len(count), count)
		}
		for name, n := range count {
			if n < 80 {
				t.Errorf("%s has only %d of 300 open connections: %v", name, n, count)
			}
		}
	})
}

func TestAClientThatClosesItsWriteSideGetsAllReplies(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		l := connect(t, c.start(t, startThreeNodes(t).addrs, false))
		const requests = `{"id":1,"action":"sleep","payload":0.5}` + "\n" + `{"id":2,"action":"upper","payload":"ñ"}` + "\n"
		const want = `{"id":2,"status":"done","result":{"ok":true,"data":"Ñ"}}` + "\n" +
			`{"id":1,"status":"done","result":{"ok":true,"slept":0.5}}` + "\n"
		if _, err := io.WriteString(l, requests); err != nil {
			t.Fatal(err)
		}
		if err := l.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(l.replies)
		if err != nil {
			t.Errorf("after the replies: %v, want the end of the stream", err)
		}
		if string(got) != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

func TestNoConnectionFailsWhenANodeIsKilledAndARestartedNodeIsUsedAgain(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		nodes := startThreeNodes(t)
		addr := c.start(t, nodes.addrs, false)
		for i := range nodes.nodes {
			awaitNode(t, addr, nodes.name(i))
		}
		nodes.nodes[1].Kill(t)
		// A connection that the dead node does not accept goes to another node, so no
		// connection fails even before a check detects the dead node.
		for i := range 90 {
			name, err := runOn(addr)
			if err != nil {
				t.Fatalf("connection %d after the kill: %v", i, err)
			}
			if name == nodes.name(1) {
				t.Fatalf("connection %d went to the killed node", i)
			}
		}
		nodes.start(t, 1)
		awaitNode(t, addr, nodes.name(1))
	})
}

func TestALargePayloadPassesUnchanged(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		addr := c.start(t, startThreeNodes(t).addrs, false)
		payload := fmt.Sprintf("%q", payloadOf(1_000_000))
		l := connect(t, addr)
		for range 3 {
			l.wantReply(t, `{"id":1,"action":"echo","payload":`+payload+`}`, `{"id":1,"status":"done","result":{"ok":true,"data":`+payload+`}}`)
		}
		response, err := http.Post("http://"+addr+"/v1/run", "application/json", strings.NewReader(`{"action":"echo","payload":`+payload+`}`))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK || !strings.Contains(string(body), payload) {
			t.Errorf("over HTTP: %s and %d bytes: %.80s", response.Status, len(body), body)
		}
	})
}

func TestARefusalReachesAClientThatIsStillSending(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		addr := c.start(t, startThreeNodes(t).addrs, false)
		for i := range 20 {
			l := connect(t, addr)
			var sending sync.WaitGroup
			sending.Go(func() { _, _ = l.Write(payloadOf(3 << 20)) })
			reply, err := l.replies.ReadString('\n')
			if err != nil || !strings.Contains(reply, `"code":"line_too_long"`) {
				t.Fatalf("client %d got %q, %v", i, reply, err)
			}
			l.Close()
			sending.Wait()
		}
	})
}

func TestADrainingNodeAnswersTheRequestsItReceived(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		nodes := startThreeNodes(t)
		l := connect(t, c.start(t, nodes.addrs, false))
		name, err := l.node()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(l, `{"id":9,"action":"sleep","payload":3}`+"\n"); err != nil {
			t.Fatal(err)
		}
		for i := range nodes.nodes {
			if nodes.name(i) == name {
				nodes.nodes[i].Signal(syscall.SIGTERM)
			}
		}
		var got []string
		for len(got) < 2 {
			reply, err := l.replies.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			got = append(got, strings.TrimSpace(reply))
		}
		if !strings.Contains(got[0], `"status":"goaway"`) || got[1] != `{"id":9,"status":"done","result":{"ok":true,"slept":3}}` {
			t.Errorf("got %q, want the goaway and the reply", got)
		}
	})
}

func TestTheNodeSeesTheClientsAddress(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		// One address may have two connections. If the node saw the address of the
		// balancer, other clients could not connect.
		nodes := startNodes(t, 1, "--proxy-protocol", "--max-connections-per-address", "2", "--drain-delay", "0s")
		addr := c.start(t, nodes.addrs, true)
		for range 2 {
			connectFrom(t, "127.0.0.2", addr).wantReply(t, `{"id":1,"op":"ping"}`, pong)
		}
		reply, err := connectFrom(t, "127.0.0.2", addr).replies.ReadString('\n')
		if err != nil || !strings.Contains(reply, `"code":"overloaded"`) {
			t.Errorf("the third connection of one address got %q, %v", reply, err)
		}
		connectFrom(t, "127.0.0.3", addr).wantReply(t, `{"id":1,"op":"ping"}`, pong)
	})
}

func TestARollingRestartLosesNoRequest(t *testing.T) {
	forEachBalancer(t, func(t *testing.T, c implementation) {
		nodes := startThreeNodes(t)
		addr := c.start(t, nodes.addrs, false)
		load := startLoad(t, addr)
		for i := range nodes.nodes {
			nodes.terminate(t, i)
			nodes.start(t, i)
			// Like a careful operator, wait until this node is used before the next restart.
			awaitNode(t, addr, nodes.name(i))
		}
		load.stop(t)
	})
}

// load is a client that runs tasks without a pause.
type load struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	done   atomic.Int64
	failed atomic.Int64
	first  atomic.Pointer[error] // the first failure
}

func startLoad(t *testing.T, addr string) *load {
	t.Helper()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for worker := range 8 {
		l.work.Go(func() {
			for ctx.Err() == nil {
				l.run(c, worker)
			}
		})
	}
	t.Cleanup(func() { cancel(); l.work.Wait() })
	return l
}

// run runs one task. Those of worker 0 take longer, so that tasks are running at each
// restart.
func (l *load) run(c *client.Client, worker int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if worker == 0 {
		_, err = c.Run(ctx, "sleep", 0.4)
	} else {
		_, err = c.Run(ctx, "upper", "hola")
	}
	if err != nil {
		l.failed.Add(1)
		l.first.CompareAndSwap(nil, &err)
		return
	}
	l.done.Add(1)
}

// stop ends the load and checks that no task failed.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.work.Wait()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d tasks failed, the first: %v", n, n+l.done.Load(), *l.first.Load())
	}
	if l.done.Load() < 100 {
		t.Errorf("only %d tasks ran, want at least 100", l.done.Load())
	}
	t.Logf("%d tasks", l.done.Load())
}
