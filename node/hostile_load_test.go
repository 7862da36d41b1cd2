package node_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// memoryMargin is how many MiB the memory of a node may grow. It is large, since the race
// detector multiplies memory, but each test sends far more.
const memoryMargin = 120

// TestHostileClientsDoNotMakeMemoryGrow measures the memory of a node during and after the
// visits of hostile clients. Each step sends several times the margin.
func TestHostileClientsDoNotMakeMemoryGrow(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	server := shortWriteNode(t)
	server.expectAlive(t)
	before := server.resident(t)
	for _, step := range []struct {
		name string
		do   func(t *testing.T, server *nodeProcess)
	}{
		{"endless lines, one after the other", endlessLines},
		{"clients that never read", neverReading},
		{"10,000 pipelined tasks on one connection", pipelined},
		{"idle connections that have sent large lines", idleAfterLargeLines},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do(t, server)
			server.expectAlive(t)
			after := server.resident(t)
			t.Logf("resident: %d MiB before, %d MiB now", before, after)
			if after > before+memoryMargin {
				t.Errorf("the resident memory is %d MiB, before it was %d MiB", after, before)
			}
		})
	}
}

// endlessLines sends several hundred MiB without a line end, in place of one line of 2 GiB, of
// which a node would read only the first 9 MiB.
func endlessLines(t *testing.T, server *nodeProcess) {
	for range 60 {
		v := visit(t, server.addr)
		v.pour("x", 7<<20)
		v.expectTooLong()
		v.conn.Close()
	}
}

// neverReading requests large replies and reads none: the node disconnects these clients, and
// serves another one meanwhile.
func neverReading(t *testing.T, server *nodeProcess) {
	line := echo(`"`+strings.Repeat("x", 64<<10)+`"`) + "\n"
	var group sync.WaitGroup
	for range 8 {
		v := visit(t, server.addr)
		_ = v.conn.SetReadBuffer(4 << 10)
		group.Go(func() {
			for range 2_000 { // 128 MiB, far more than sockets and windows hold
				if _, err := v.conn.Write([]byte(line)); err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("a client that never reads is not disconnected within %v", patience)
					}
					v.conn.Close()
					return
				}
			}
			t.Error("the node accepts 128 MiB from a client that never reads")
		})
	}
	over := make(chan struct{})
	go func() { group.Wait(); close(over) }()
	honest := visit(t, server.addr)
	for {
		honest.expectPong()
		select {
		case <-over:
			return
		default:
		}
	}
}

// pipelined sends 10,000 tasks without waiting for replies. Each must get its own reply.
func pipelined(t *testing.T, server *nodeProcess) {
	const tasks = 10_000
	v := visit(t, server.addr)
	payload := strings.Repeat("x", 10_000) // 100 MB in all
	go func() {
		out := bufio.NewWriter(v.conn)
		for i := range tasks {
			fmt.Fprintf(out, `{"id":%d,"action":"upper","payload":"%s"}`+"\n", i, payload)
		}
		_ = out.Flush()
		_ = v.conn.CloseWrite()
	}()
	want := `,"status":"done","result":{"ok":true,"data":"` + strings.ToUpper(payload) + `"}}` + "\n"
	seen := map[string]bool{}
	for range tasks {
		line, err := v.in.ReadString('\n') // next would be too slow for the node's write timeout
		if err != nil {
			t.Fatalf("after %d replies: %v", len(seen), err)
		}
		id, found := strings.CutSuffix(line, want)
		if !found || seen[id] {
			t.Fatalf("got the reply %s, which is wrong or a duplicate", short(line))
		}
		seen[id] = true
	}
	for i := range tasks {
		if id := fmt.Sprintf(`{"id":%d`, i); !seen[id] {
			t.Errorf("there is no reply that begins with %s", id)
		}
	}
	v.expectEnd()
}

// idleAfterLargeLines leaves connections open that have sent a line of 1 MiB each.
func idleAfterLargeLines(t *testing.T, server *nodeProcess) {
	payload := `"` + strings.Repeat("x", 1<<20-100) + `"`
	want := echoed(payload) + "\n"
	for range 120 {
		v := visit(t, server.addr)
		v.send(echo(payload) + "\n")
		if line, err := v.in.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got the reply %s and %v, want the payload", short(line), err)
		}
	}
}

// TestConnectionsBeyondTheLimitAreRefusedAndTheOthersAreServed opens more connections than the
// limit. Afterwards new connections are served again.
func TestConnectionsBeyondTheLimitAreRefusedAndTheOthersAreServed(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	var visitors []*visitor
	served, overloaded := 0, 0
	for range hostileConnections + 100 {
		v := visit(t, server.addr)
		visitors = append(visitors, v)
		v.send(`{"id":1,"op":"ping"}` + "\n")
		line, err := v.next()
		switch {
		case err != nil:
			t.Fatalf("connection %d got %v instead of a reply", len(visitors), err)
		case looksLike(line, done("1", `true,"data":"pong"`)):
			served++
		case looksLike(line, `{"id":null,"status":"error","code":"overloaded","error":"…"…}`):
			overloaded++
			v.finish()
			v.expectEnd()
		default:
			t.Fatalf("got the reply %s", line)
		}
	}
	if served < hostileConnections*9/10 || served > hostileConnections || overloaded < 100 {
		t.Errorf("%d connections were served and %d refused; the limit is %d", served, overloaded, hostileConnections)
	}
	visitors[0].expectPong()
	for _, v := range visitors {
		v.conn.Close()
	}
	waitUntilServed(t, server)
}

// TestHealthChecksAreAnsweredWhileSilentConnectionsUseUpTheLimit opens as many silent connections
// as the limit allows. They cannot occupy the places reserved for health checks.
func TestHealthChecksAreAnsweredWhileSilentConnectionsUseUpTheLimit(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	for range hostileConnections + 20 {
		visit(t, server.addr)
	}
	testenv.Eventually(t, patience, func() error { // until the node has counted all of them
		v := visit(t, server.addr)
		v.send(`{"id":1,"op":"ping"}` + "\n")
		line, err := v.next()
		v.conn.Close()
		if err == nil && strings.Contains(line, "pong") {
			return errors.New("a connection of lines finds a place")
		}
		return nil
	})
	testenv.Eventually(t, patience, func() error { // until silent connections have left the reserved places
		v := visit(t, server.addr)
		v.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		status, err := v.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200 ") {
			return fmt.Errorf("/readyz answers %q (%w) while %d silent connections are open", status, err, hostileConnections)
		}
		return nil
	})
}

// waitUntilServed waits until the node has noticed that connections have ended.
func waitUntilServed(t *testing.T, server *nodeProcess) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		v := visit(t, server.addr)
		v.send(`{"id":1,"op":"ping"}` + "\n")
		line, err := v.next()
		v.conn.Close()
		if err == nil && strings.Contains(line, "pong") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node serves no client after the flood: %s %v", line, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestBrokenConnectionsFreeTheirSlots breaks connections at every stage, some of them with tasks
// that would run for long.
func TestBrokenConnectionsFreeTheirSlots(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	openings := []string{"", "{", `{"id":1,"action":"sleep","payload":3000,"timeout":3600}` + "\n", echo(`1`) + "\n" + echo(`2`), "GET / HT", "\x16\x03", "\n"}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 150 {
				conn := dialQuietly(server.addr)
				if conn == nil {
					t.Error("a connection is refused by the kernel")
					return
				}
				_, _ = conn.Write([]byte(openings[(worker+i)%len(openings)]))
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})
	}
	group.Wait()
	waitUntilServed(t, server)
	// All slots must be free again, since the sleeps end with their connections.
	v := visit(t, server.addr)
	for id := range 2 * hostileSlots {
		v.send(fmt.Sprintf(`{"id":%d,"action":"sleep","payload":0.01}`+"\n", id))
	}
	for range 2 * hostileSlots {
		v.expect(`{"id":…,"status":"done","result":{"ok":true,"slept":0.01}}`)
	}
}
