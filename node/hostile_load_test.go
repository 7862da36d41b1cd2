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

// memoryMargin is how many MiB a node may hold beyond what it held before. It is
// wide, for the race detector multiplies memory; what each test sends is far more.
const memoryMargin = 120

// TestMemoryStaysFlat is about what a node holds while it is ill-treated and when
// that is over. Each step sends several times the margin.
func TestMemoryStaysFlat(t *testing.T) {
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
				t.Errorf("the node holds %d MiB, it held %d MiB before", after, before)
			}
		})
	}
}

// endlessLines pours several hundred MiB without a line end: the stand-in for one
// line of 2 GiB, of which a node would not read more than the first 9 MiB.
func endlessLines(t *testing.T, server *nodeProcess) {
	for range 60 {
		v := visit(t, server.addr)
		v.pour("x", 7<<20)
		v.expectTooLong()
		v.conn.Close()
	}
}

// neverReading has clients that ask for large replies and read none: the node
// disconnects them, and serves another one meanwhile.
func neverReading(t *testing.T, server *nodeProcess) {
	line := echo(`"`+strings.Repeat("x", 64<<10)+`"`) + "\n"
	var group sync.WaitGroup
	for range 8 {
		v := visit(t, server.addr)
		_ = v.conn.SetReadBuffer(4 << 10)
		group.Go(func() {
			for range 2_000 { // 128 MiB, far beyond what sockets and windows hold
				if _, err := v.conn.Write([]byte(line)); err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("a client that never reads is not disconnected within %v", patience)
					}
					v.conn.Close()
					return
				}
			}
			t.Error("the node takes 128 MiB from a client that never reads")
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

// pipelined sends 10,000 tasks without waiting for a reply; each must get its own.
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
		line, err := v.in.ReadString('\n') // next would take longer than the node grants
		if err != nil {
			t.Fatalf("after %d replies: %v", len(seen), err)
		}
		id, found := strings.CutSuffix(line, want)
		if !found || seen[id] {
			t.Fatalf("got the reply %s, which is wrong or comes twice", short(line))
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

// idleAfterLargeLines leaves connections open that have had a line of 1 MiB each.
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

// TestAFloodOfConnectionsIsRefusedAndSubsides opens more connections than there
// may be: those beyond are told so, the others are served, and afterwards all is as before.
func TestAFloodOfConnectionsIsRefusedAndSubsides(t *testing.T) {
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
			t.Fatalf("connection %d gets %v instead of a reply", len(visitors), err)
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
		t.Errorf("%d connections were served and %d refused; %d are allowed", served, overloaded, hostileConnections)
	}
	visitors[0].expectPong()
	for _, v := range visitors {
		v.conn.Close()
	}
	waitUntilServed(t, server)
}

// TestHealthChecksAreAnsweredWhileSilentConnectionsTakeTheRest opens as many
// connections as there may be, which say nothing: those kept for health checks are not theirs.
func TestHealthChecksAreAnsweredWhileSilentConnectionsTakeTheRest(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	for range hostileConnections + 20 {
		visit(t, server.addr)
	}
	testenv.Eventually(t, patience, func() error { // until the node has counted them
		v := visit(t, server.addr)
		v.send(`{"id":1,"op":"ping"}` + "\n")
		line, err := v.next()
		v.conn.Close()
		if err == nil && strings.Contains(line, "pong") {
			return errors.New("a connection of lines finds a place")
		}
		return nil
	})
	testenv.Eventually(t, patience, func() error { // once silent ones have left the places for health checks
		v := visit(t, server.addr)
		v.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		status, err := v.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200 ") {
			return fmt.Errorf("/readyz answers %q (%w) while %d silent connections are open", status, err, hostileConnections)
		}
		return nil
	})
}

// waitUntilServed waits until the node has noticed that connections are over.
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
			t.Fatalf("the node serves nobody after the flood: %s %v", line, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestAFloodOfBrokenConnectionsLeavesNothingBehind breaks connections off at every
// stage, some of them with tasks that would run for long.
func TestAFloodOfBrokenConnectionsLeavesNothingBehind(t *testing.T) {
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
	// All slots must come back: the sleeps end with their connections.
	v := visit(t, server.addr)
	for id := range 2 * hostileSlots {
		v.send(fmt.Sprintf(`{"id":%d,"action":"sleep","payload":0.01}`+"\n", id))
	}
	for range 2 * hostileSlots {
		v.expect(`{"id":…,"status":"done","result":{"ok":true,"slept":0.01}}`)
	}
}
