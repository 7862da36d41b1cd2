package node_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/task"
)

// hostileVisit is a hostile use of a connection that needs more than one line.
type hostileVisit struct {
	name string
	do   func(t *testing.T, p *nodeProcess)
}

func hostileVisits() []hostileVisit {
	return []hostileVisit{
		{"says nothing and leaves", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.finish()
			v.expectEnd()
		}},
		{"breaks off at once", func(t *testing.T, p *nodeProcess) { visit(t, p.addr).reset() }},
		{"breaks off within a line", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(`{"id":1,"act`)
			v.reset()
		}},
		{"breaks off while its task runs", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(`{"id":1,"action":"sleep","payload":600,"timeout":3600}` + "\n")
			v.expectPong()
			v.reset()
		}},
		{"breaks off with its window full", func(t *testing.T, p *nodeProcess) { breaksOffFull(t) }},
		{"ends within a line", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(`{"id":1,"action":"ec`)
			v.finish()
			v.expect(badJSON)
			v.expectEnd()
		}},
		{"ends its last line with its side", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(echo(`1`) + "\n" + echo(`2`))
			v.finish()
			v.expect(echoed(`1`))
			v.expect(echoed(`2`))
			v.expectEnd()
		}},
		{"sends a byte at a time", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			for _, c := range []byte(echo(`"ß"`) + "\r\n\n") {
				v.send(string([]byte{c}))
			}
			v.expect(echoed(`"ß"`))
			v.expectPong()
		}},
		{"stops within a line", func(t *testing.T, _ *nodeProcess) {
			v := visit(t, hasty(t).addr)
			v.send(`{"id":1,"action":`)
			v.expect(`{"id":null,"status":"error","code":"line_timeout","error":"…","limit":"…"}`)
			v.expectEnd()
		}},
		{"drips a line that never ends", func(t *testing.T, _ *nodeProcess) { drip(t) }},
		{"sends 1 MiB and one byte", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(echo(`"`+strings.Repeat("x", 1<<20+1-len(echo(`""`)))+`"`) + "\n")
			v.expectTooLong()
		}},
		{"sends 1 MiB", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			payload := `"` + strings.Repeat("x", 1<<20-len(echo(`""`))-len(`,"result":{"ok":true}`)) + `"`
			line := strings.Repeat(" ", 1<<20-len(echo(payload))) + echo(payload)
			v.send(line + "\n")
			v.expect(echoed(payload))
			v.send(line + "\r\n")
			v.expect(echoed(payload))
			v.expectPong()
		}},
		{"sends 1 MiB and, later, the two halves of a line end", func(t *testing.T, _ *nodeProcess) {
			server := openStage(t, node.Config{})
			v := visit(t, server.addr)
			v.send(strings.Repeat(" ", 1<<20-len(echo(`1`))) + echo(`1`) + "\r")
			untilReceived(t, server.addr, 1<<20+1)
			v.send("\n")
			v.expect(echoed(`1`))
		}},
		{"sends 1 MiB and one byte of spaces", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(strings.Repeat(" ", 1<<20+1) + "\n")
			v.expectTooLong()
		}},
		{"sends an endless line", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.pour("x", 3<<20)
			v.expectTooLong()
		}},
		{"sends an endless line of zeros", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.pour("\x00", 3<<20)
			v.expectTooLong()
		}},
		{"sends an endless line behind good ones", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(echo(`1`) + "\n")
			v.pour(" ", 3<<20)
			v.expect(echoed(`1`))
			v.expectTooLong()
		}},
		{"sends lines behind one that is too long", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.pour("x", 2<<20)
			v.send("\n" + echo(`"never"`) + "\n")
			v.expectTooLong()
		}},
		{"sends 5,000 broken lines at once", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			go v.pour("{\n", 10_000)
			for range 5_000 {
				v.expect(badJSON)
			}
			v.expectPong()
		}},
		{"sends a megabyte of blank lines", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.pour("\n", 1<<20)
			v.pour("\r\n", 1<<20)
			v.expectPong()
		}},
		{"reads slowly, but all the time", func(t *testing.T, _ *nodeProcess) { readsSlowly(t) }},
		{"reads late, and goes on later", func(t *testing.T, _ *nodeProcess) { readsLate(t) }},
		{"uses one id for everything", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(strings.Repeat(echo(`"same"`)+"\n", 100))
			for range 100 {
				v.expect(echoed(`"same"`))
			}
			v.expectPong()
		}},
		{"speaks HTTP behind a line", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send(echo(`1`) + "\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			v.expect(echoed(`1`))
			v.expect(badJSON)
			v.finish()
			v.expectEnd()
		}},
		{"speaks the binary PROXY protocol", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send("\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x01\x02\x03\x04\n")
			for range 3 {
				v.expect(badJSON)
			}
			v.expectPong()
		}},
		{"speaks TLS", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			err := tls.Client(v.conn, &tls.Config{InsecureSkipVerify: true}).Handshake()
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the TLS handshake on a plain port ended with %v, want a refusal at once", err)
			}
		}},
		{"sends half a TLS greeting", func(t *testing.T, p *nodeProcess) {
			v := visit(t, p.addr)
			v.send("\x16\x03\x01")
			v.finish()
			v.expectNoLine()
		}},
	}
}

// expectTooLong expects line_too_long, which must arrive although the node did not read
// everything that was sent, and then the end of the connection.
func (v *visitor) expectTooLong() {
	v.tb.Helper()
	v.expect(`{"id":null,"status":"error","code":"line_too_long","error":"…","limit":"…"}`)
	_ = v.conn.CloseWrite() // a slow client finds that the node no longer waits for its rest, and has reset the connection
	v.expectNoLine()
}

// expectNoLine expects the connection to end without a reply.
func (v *visitor) expectNoLine() {
	v.tb.Helper()
	line, err := v.in.ReadString('\n')
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		v.tb.Fatalf("got %q and %v, want the end of the connection", line, err)
	}
}

// pour sends a text again and again, until total bytes are sent or the server ends the
// connection.
func (v *visitor) pour(text string, total int) {
	chunk := []byte(strings.Repeat(text, max(64<<10/len(text), 1)))
	for total > 0 {
		n, err := v.conn.Write(chunk[:min(len(chunk), total)])
		if err != nil {
			return
		}
		total -= n
	}
}

// untilReceived waits until a node has received this many bytes of lines.
func untilReceived(t *testing.T, addr string, bytes int) {
	t.Helper()
	client := http.Client{Timeout: patience}
	for deadline := time.Now().Add(patience); ; {
		response, err := client.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var received float64
		if _, rest, found := strings.Cut(string(text), "posta_received_bytes_total{door=\"lines\"} "); found {
			_, _ = fmt.Sscan(rest, &received)
		}
		if received >= float64(bytes) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node has received %.0f bytes, want %d\n", received, bytes)
		}
	}
}

// hastyLineTimeout is the line timeout of a hasty node.
const hastyLineTimeout = time.Second

// hasty starts a node with a short line timeout.
func hasty(t *testing.T) *stage {
	t.Helper()
	return openStage(t, node.Config{Limits: task.Limits{LineTimeout: hastyLineTimeout}})
}

// drip sends a line so slowly that each byte arrives in time but the line does not.
func drip(t *testing.T) {
	v := visit(t, hasty(t).addr)
	over := make(chan struct{})
	defer close(over)
	go func() {
		tick := time.NewTicker(hastyLineTimeout / 20)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if _, err := v.conn.Write([]byte(" ")); err != nil {
					return
				}
			}
		}
	}()
	v.expect(`{"id":null,"status":"error","code":"line_timeout","error":"…","limit":"…"}`)
	v.expectEnd()
}

// breaksOffFull fills the window of a connection with tasks that would run for an hour, and
// breaks the connection. The node does not read from a full connection, but must notice it all
// the same, or the slots would be lost.
func breaksOffFull(t *testing.T) {
	server := hostileNode(t)
	v := visit(t, server.addr)
	for id := range 2 * task.DefaultWindow {
		v.send(fmt.Sprintf(`{"id":%d,"action":"sleep","payload":3600,"timeout":3600}`+"\n", id))
	}
	untilReceived(t, server.addr, task.DefaultWindow*len(`{"id":0,"action":"sleep","payload":3600,"timeout":3600}`+"\n")) // it reads at most one more batch
	v.reset()
	next := visit(t, server.addr)
	next.send(`{"id":1,"action":"sleep","payload":0.01}` + "\n")
	next.expect(done("1", `true,"slept":0.01`))
}

// readsSlowly reads slowly, for longer than the write timeout.
func readsSlowly(t *testing.T) {
	v := visit(t, openStage(t, node.Config{Limits: task.Limits{WriteTimeout: shortWrite}}).addr)
	line, replies := echo(`"`+strings.Repeat("x", 64<<10)+`"`)+"\n", 200
	go v.pour(line, replies*len(line))
	// The node has to wait: the socket buffers hold some megabytes, and the client reads a
	// part of them each time.
	const parts, part = 15, 400 << 10
	tick := time.NewTicker(shortWrite * 3 / 2 / parts)
	defer tick.Stop()
	for range parts {
		<-tick.C
		v.wait()
		if n, err := io.CopyN(io.Discard, v.in, part); err != nil {
			t.Fatalf("after %d bytes of a part: %v", n, err)
		}
	}
	received, buffer := parts*part, make([]byte, 40<<10)
	for wanted := replies * (len(echoed(`""`)) + 64<<10 + 1); received < wanted; {
		n, err := v.in.Read(buffer)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", received, wanted, err)
		}
		received += n
	}
	v.expectPong()
}

// readsLate lets replies wait until the node's socket is full, reads them just in time, and
// uses the connection again long after the timeout of that write.
func readsLate(t *testing.T) {
	v := visit(t, openStage(t, node.Config{Limits: task.Limits{WriteTimeout: shortWrite}}).addr)
	line, replies := echo(`"`+strings.Repeat("x", 1<<20-100)+`"`)+"\n", 24
	go v.pour(line, replies*len(line))
	<-time.After(shortWrite / 2)
	wanted := replies * (len(line) - len(echo("")) + len(echoed("")))
	v.wait()
	if received, err := io.CopyN(io.Discard, v.in, int64(wanted)); err != nil {
		t.Fatalf("after %d of %d bytes: %v", received, wanted, err)
	}
	<-time.After(shortWrite * 3 / 2)
	v.expectPong()
}

func TestAHostileConnectionDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	t.Run("visitor", func(t *testing.T) {
		for _, c := range hostileVisits() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.do(t, server)
			})
		}
	})
	server.expectAlive(t)
}

func TestAHostileActionFailsOnlyItsOwnTask(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	for name, want := range map[string]string{
		"panics": `…boom…`, "panics with nil": `…`, "panics with an error": `…oops…`, "panics with a bad error": `…`,
		"panics with bytes": `…`, "ends its goroutine": `…`, "fails": `…failed…`, "fails badly": `…`, "fails without words": `…`,
		"gives a channel": `…`, "gives a bad value": `…`, "gives too much": `…1048576…`, "writes too much": `…1048576…`,
		"ignores its context": `timed out after 0.1s`, "writes after it has failed": `failed`,
	} {
		t.Run(name, func(t *testing.T) {
			v := visit(t, server.addr)
			timeout := 30.0
			if name == "ignores its context" {
				timeout = 0.1
			}
			for range hostileSlots + 1 {
				v.send(fmt.Sprintf(`{"id":1,"action":%q,"timeout":%v}`+"\n", name, timeout))
				v.expect(failed("1", want))
			}
			v.expectPong()
		})
	}
	v := visit(t, server.addr)
	v.send(`{"id":1,"action":"gives nothing"}` + "\n")
	v.expect(echoed("null"))
	server.expectAlive(t)
}

func TestAClientWithoutATokenGetsOnlyRefusals(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Tokens: stageTokens(t)})
	const unauthenticated = `{"id":1,"status":"error","code":"unauthenticated","error":"…"}`
	const auth = `{"id":1,"op":"auth","token":"correct-horse-battery"}` + "\n"
	for _, c := range []struct {
		name, sent string
		want       []string // then the connection ends
	}{
		{"a task", echo(`1`) + "\n", []string{unauthenticated}},
		{"info", `{"id":1,"op":"info"}` + "\n", []string{unauthenticated}},
		{"an unknown key", `{"id":1,"action":"echo","x":1}` + "\n", []string{unauthenticated}},
		{"tasks behind a task", echo(`1`) + "\n" + auth + echo(`2`) + "\n", []string{unauthenticated}},
		{"a wrong token and tasks", `{"id":1,"op":"auth","token":"x"}` + "\n" + auth + echo(`2`) + "\n", []string{unauthenticated}},
		{"a token that begins like the right one", `{"id":1,"op":"auth","token":"correct-horse-batter"}` + "\n", []string{unauthenticated}},
		{"a token with a NUL behind", `{"id":1,"op":"auth","token":"correct-horse-battery\u0000"}` + "\n", []string{unauthenticated}},
		{"broken JSON, an unknown op and then a task", "x\n" + `{"id":1,"op":"nope"}` + "\n" + echo(`1`) + "\n",
			[]string{badJSON, refused("1", "unknown_op", "op"), unauthenticated}},
		{"a line of more than 4 KiB", `{"id":1,"op":"auth","token":"` + strings.Repeat("x", 4<<10) + `"}` + "\n",
			[]string{`{"id":null,"status":"error","code":"line_too_long","error":"…","limit":"…"}`}},
		{"silence", "", []string{`{"id":null,"status":"error","code":"unauthenticated","error":"…"…}`}},
		{"pings without a token, and silence", `{"id":1,"op":"ping"}` + "\n", []string{done("1", `true,"data":"pong"`), `{"id":null,"status":"error","code":"unauthenticated","error":"…"…}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := visit(t, server.addr)
			v.send(c.sent)
			for _, want := range c.want {
				v.expect(want)
			}
			v.expectEnd()
		})
	}
	t.Run("pings without an end", func(t *testing.T) {
		t.Parallel()
		v := visit(t, server.addr)
		tick := time.NewTicker(task.UnauthenticatedTimeout / 4)
		defer tick.Stop()
		for range 8 {
			<-tick.C
			_, _ = v.conn.Write([]byte(`{"id":1,"op":"ping"}` + "\n"))
			if line, err := v.next(); err != nil || strings.Contains(line, "unauthenticated") {
				return
			}
		}
		t.Errorf("a client without a token keeps its connection for %v by sending pings, want at most %v", 2*task.UnauthenticatedTimeout, task.UnauthenticatedTimeout)
	})
	t.Run("the right token and tasks in one go", func(t *testing.T) {
		t.Parallel()
		v := visit(t, server.addr)
		v.send(auth + echo(`1`) + "\n" + auth + echo(`"`+strings.Repeat("x", 8<<10)+`"`) + "\n")
		v.expect(done("1", `true,"name":"web","scopes":["all"]`))
		v.expect(echoed(`1`))
		v.expect(done("1", `true,"name":"web","scopes":["all"]`))
		v.expect(echoed(`"` + strings.Repeat("x", 8<<10) + `"`))
		v.finish()
		v.expectEnd()
	})
}

// dialQuietly opens a connection, or returns nil if it is refused.
func dialQuietly(addr string) net.Conn {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}
