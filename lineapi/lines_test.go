package lineapi

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

func TestPipelinedTasksAreAllAnswered(t *testing.T) {
	t.Parallel()
	v := openDoor(t, Config{}, task.Limits{}).visit()
	var lines strings.Builder
	for id := range 1000 {
		lines.WriteString(echoLine(id))
	}
	v.say(lines.String())
	v.wantAll(1000)
	v.finish()
	v.wantEnd()
}

func TestRepliesComeInTheOrderInWhichTasksEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		v := openHatch(t, Config{}, task.Limits{Slots: 4}).visit()
		v.say(`{"id":1,"action":"sleep","payload":0.3}` + "\n" + `{"id":2,"action":"sleep","payload":0.15}` + "\n" + `{"id":3,"action":"sleep","payload":0.01}` + "\n" + echoLine(4))
		v.want(done(4), `{"id":3,"status":"done","result":{"ok":true,"slept":0.01}}`, `{"id":2,…`, `{"id":1,…`)
	})
}

// TestASlowTaskHoldsUpNothingBehindIt has a task of an action that is not known to be slow
// yet, with others in the same write, before and behind it.
func TestASlowTaskHoldsUpNothingBehindIt(t *testing.T) {
	t.Parallel()
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprint("wrapped ", wrapped), func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, Config{}, task.Limits{}, func(c net.Conn) net.Conn {
				if wrapped {
					return &counted{Conn: c}
				}
				return c
			})
			v := d.visit()
			v.say(echoLine(1) + lazyLine(2) + echoLine(3) + lazyLine(4) + echoLine(5) + lazyLine(6) + echoLine(7))
			v.wantThese(done(1), done(3), done(5), done(7))
			v.say(echoLine(8) + "nonsense\n" + lazyLine(9))
			v.wantThese(done(8), `{"id":null,"status":"error","code":"invalid_json",…`)
			d.wantBegun(4)
			v.finish()
			for range 4 {
				d.gates.open <- struct{}{}
			}
			seen := map[string]bool{}
			for range 4 {
				seen[v.readLine()] = true
			}
			for _, id := range []int{2, 4, 6, 9} {
				if !seen[done(id)] {
					t.Errorf("task %d is not answered: %v", id, seen)
				}
			}
			v.wantEnd()
		})
	}
}

func TestAHalfClosedConnectionGetsAllItsReplies(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{Slots: 2})
	v := d.visit()
	v.say(gateLine(1) + gateLine(2) + gateLine(3) + echoLine(4))
	v.finish()
	v.want(done(4))
	d.wantBegun(2)
	for range 3 {
		d.gates.open <- struct{}{}
	}
	for range 3 {
		v.want(`{"id":…`)
	}
	v.wantEnd()
	if len(d.gates.ended) != 0 {
		t.Error("the half-close has cancelled a task")
	}
}

func TestTheLastLineNeedsNoLineEnding(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{})
	d.gates.open <- struct{}{}
	d.gates.open <- struct{}{}
	for text, want := range map[string]string{
		strings.TrimSpace(echoLine(1)):          done(1),
		strings.TrimSpace(gateLine(2)):          done(2),
		strings.TrimSpace(lazyLine(3)):          done(3),
		"\n\n" + strings.TrimSpace(echoLine(4)): done(4),
		strings.TrimSpace(echoLine(5)) + "\r":   done(5),
		`{"id":6,"act`:                          `{"id":null,"status":"error","code":"invalid_json",…`,
		`{"id":7,"action":"echo","payload":"` + strings.Repeat("x", 200_000) + `"}`: `{"id":7,"status":"done",…`,
	} {
		v := d.visit()
		v.say(text)
		v.finish()
		v.want(want)
		v.wantEnd()
	}
	for _, text := range []string{"", "\n", " \r\n\t\n  ", "\r"} {
		v := d.visit()
		v.say(text)
		v.finish()
		v.wantEnd()
	}
}

// A page can make a browser send any method: what follows it in the body is the page's, and no line.
func TestAnHTTPRequestThatIsNoneEndsTheConnection(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{})
	body := "\n" + gateLine(1) + echoLine(2)
	for _, first := range []string{
		"patch / HTTP/1.1", "get / HTTP/1.1", "post /v1/run HTTP/1.0", "purge /a%20b?c=d HTTP/1.1", "pAtCh http://evil.example/ HTTP/1.1", "get / http/1.1",
		"1 / HTTP/1.1", "-1 / HTTP/1.1", "null / HTTP/1.1", "true / HTTP/1.1", "! / HTTP/1.1", "#$%&'*+-.^_`|~ / HTTP/1.1", "get / HTTP/2.0", "get  / HTTP/1.1", "get /" + strings.Repeat("x", 100_000) + " HTTP/1.1",
		" GET / HTTP/1.1", "\nGET / HTTP/1.1", "\r\n\r\npatch / HTTP/1.1", "\xEF\xBB\xBFGET / HTTP/1.1", "hello\npatch / HTTP/1.1",
	} {
		v := d.visit()
		v.say(first + "\r\nHost: evil.example\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 99\r\n\r\n" + body)
		v.want(`{"id":null,"status":"error","code":"invalid_json","error":"invalid json",…`)
		if strings.HasPrefix(first, "hello") {
			v.want(`{"id":null,"status":"error","code":"invalid_json","error":"invalid json",…`)
		}
		v.wantEnd()
	}
	if n := d.gates.count.Load(); n != 0 {
		t.Errorf("%d tasks of the bodies ran", n)
	}
	for _, first := range []string{"hello", "hello HTTP", "see HTTP/ for it", `{"id":1 HTTP/1.1`, `"a b HTTP/1.1`, "[ HTTP/1.1", "HTTP/1.1"} { // these no browser sends
		v := d.visit()
		v.say(first + "\n" + echoLine(1))
		v.want(`{"id":null,"status":"error","code":"invalid_json",…`, done(1))
	}
}

func TestAByteOrderMarkBeforeTheFirstLineIsSkipped(t *testing.T) {
	t.Parallel()
	const mark = "\xEF\xBB\xBF"
	longest := lineOf(80_000)
	d := openDoor(t, Config{}, task.Limits{Line: len(longest)})
	for size := 1; size < 8; size++ {
		v := d.visit()
		sayInPieces := func(rest string) {
			for rest != "" {
				n := min(size, len(rest))
				v.say(rest[:n])
				rest = rest[n:]
			}
		}
		sayInPieces(mark + echoLine(1))
		v.want(done(1))
		sayInPieces(mark + echoLine(2))
		v.want(`{"id":null,"status":"error","code":"invalid_json",…`)
	}
	v := d.visit()
	v.say(mark + longest + "\n")
	v.want(`{"id":1,"status":"done",…`)
	for _, text := range []string{mark, mark + "\n\n", mark[:2]} {
		v := d.visit()
		v.say(text)
		v.finish()
		if text == mark[:2] {
			v.want(`{"id":null,"status":"error","code":"invalid_json",…`)
		}
		v.wantEnd()
	}
}

func TestLinesMayComeInAnyPieces(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{})
	text := "\r\n" + echoLine(1) + " \n\n" + strings.TrimSpace(echoLine(2)) + " \r\n" + lazyLine(3) + `{"id":4,"action":"echo","payload":"é"}` + "\n"
	for size := 1; size < len(text); size += 1 + size/4 {
		d.gates.open <- struct{}{}
		v := d.visit()
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			v.say(rest[:n])
			rest = rest[n:]
		}
		v.finish()
		seen := map[string]bool{}
		for range 4 {
			seen[v.readLine()] = true
		}
		if !seen[done(1)] || !seen[done(2)] || !seen[done(3)] || !seen[`{"id":4,"status":"done","result":{"ok":true,"data":"é"}}`] {
			t.Errorf("in pieces of %d: %v", size, seen)
		}
		v.wantEnd()
	}
}

// lineOf makes an echo line of exactly n bytes.
func lineOf(n int) string {
	const begin, end = `{"id":1,"action":"echo","payload":"`, `"}`
	return begin + strings.Repeat("x", n-len(begin)-len(end)) + end
}

func TestALineMayBeAsLongAsItsLimitAndNoLonger(t *testing.T) {
	t.Parallel()
	for _, most := range []int{64, 4096, 65536, 65537, 100_000, 1 << 20} {
		d := openDoor(t, Config{}, task.Limits{Line: most, ResultBytes: 2 << 20})
		for _, ending := range []string{"\n", "\r\n"} {
			v := d.visit()
			v.say(lineOf(most))
			v.say(ending[:1])
			v.say(ending[1:] + "\n")
			v.want(`{"id":1,"status":"done",…`)
			v.say(lineOf(most) + ending + "\n") // in one piece
			v.want(`{"id":1,"status":"done",…`)
		}
		refusal := fmt.Sprintf(`{"id":null,"status":"error","code":"line_too_long","error":"the line is longer than %d bytes","limit":"max-line"}`, most)
		for _, text := range []string{lineOf(most+1) + "\n" + echoLine(2), strings.Repeat("x", most+2), strings.Repeat(" ", most+2) + "\n" + echoLine(2)} {
			v := d.visit()
			v.say(echoLine(7) + text)
			v.want(done(7), refusal)
			v.wantEnd()
		}
		if n := d.Stats().Refusals[task.LineTooLong]; n != 3 {
			t.Errorf("%d refusals are counted, want 3", n)
		}
	}
}

func TestARefusalArrivesAlthoughTheClientIsStillSending(t *testing.T) {
	inBubble(t, func(t *testing.T) { // where sending takes no time: what follows a refusal is read for a while only
		d := openHatch(t, Config{}, task.Limits{Line: 1000})
		v := d.visit()
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(v.conn, strings.Repeat("x", 4<<20)) // far more than any buffer holds
			sent <- err
		}()
		v.want(`{"id":null,"status":"error","code":"line_too_long",…`)
		v.wantEnd()
		if err := <-sent; err != nil {
			t.Errorf("the connection was cut while the client sent: %v", err)
		}
		v.say(strings.Repeat("x", 1000)) // what is sent after the end is read as well
		v.finish()
		eventually(t, "the end of the connection", func() bool { return d.Stats().Open == 0 })
	})
}

func TestWhatTheParserRefusesEndsNothing(t *testing.T) {
	t.Parallel()
	v := openDoor(t, Config{}, task.Limits{}).visit()
	v.say("hello\n[]\n" + `{"id":"a","op":"nope"}` + "\n" + `{"id":2,"action":"echo","x":1}` + "\n" + `{"id":3}` + "\n" + `{"id":4,"op":"enqueue","action":"echo"}` + "\n" + echoLine(5))
	v.want(`{"id":null,"status":"error","code":"invalid_json","error":"invalid json",…`, `{"id":null,"status":"error","code":"invalid_request",…`,
		`{"id":"a","status":"error","code":"unknown_op",…`, `{"id":2,"status":"error","code":"unknown_field",…`, `{"id":3,"status":"error","code":"invalid_request",…`,
		`{"id":4,"status":"error","code":"unavailable",…`, done(5))
}

func TestAnActionThatBreaksHurtsNoOtherLine(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{Slots: 1})
	v := d.visit()
	const lines = 40 // each ends the goroutine that has the reading, until the action is known
	for id := range lines {
		v.say(fmt.Sprintf(`{"id":"p","action":"panic"}`+"\n"+`{"id":"x","action":"exit"}`+"\n") + echoLine(id))
	}
	v.finish()
	received := map[string]int{}
	for range 3 * lines {
		received[v.readLine()]++
	}
	v.wantEnd()
	if received[`{"id":"p","status":"done","result":{"ok":false,"error":"action panic panicked: boom"}}`] != lines ||
		received[`{"id":"x","status":"done","result":{"ok":false,"error":"the action ended its goroutine instead of returning"}}`] != lines || len(received) != lines+2 {
		t.Errorf("received %v", received)
	}
	eventually(t, "idleness", func() bool { s := d.executor.Stats(); return s.SlotsBusy+s.QuickBusy == 0 })
}

func TestPingInfoAndTheDefaultOp(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{Version: "v9", DefaultOp: "enqueue"}, task.Limits{Slots: 3, Line: 5000})
	v := d.visit()
	v.say(`{"id":1,"op":"ping"}` + "\n" + `{"id":2,"op":"info"}` + "\n" + `{"id":3,"op":"auth","token":"any"}` + "\n" + `{"id":4,"action":"echo"}` + "\n")
	v.want(`{"id":1,"status":"done","result":{"ok":true,"data":"pong"}}`,
		`{"id":2,"status":"done","result":{"ok":true,"node":"n1","version":"v9","protocol":1,"features":["work"],"actions":["echo","exit","fib","gate","grind","lazy","panic","sleep","upper"],"slots":3,"limits":{…`,
		`{"id":3,"status":"done","result":{"ok":true,"name":"anonymous",…`, `{"id":4,"status":"error","code":"unavailable",…`)
}

// counted is a connection that is no plain socket, and counts its writes.
type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func (c *counted) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// TestRepliesThatAreReadyTogetherLeaveInOneWrite sends batches of quick tasks. In a bubble none of them takes time, so
// no batch is cut.
func TestRepliesThatAreReadyTogetherLeaveInOneWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{})
		client, server := testenv.NewDuplex()
		conn := &counted{Conn: server}
		d.serving.Go(func() { d.Serve(conn, time.Now(), func() {}) })
		v := newVisitor(t, client)
		var lines strings.Builder
		for id := range 200 {
			lines.WriteString(echoLine(id))
		}
		for range 20 {
			v.say(lines.String())
			v.wantAll(200)
		}
		if n := conn.writes.Load(); n > 40 {
			t.Errorf("20 batches of 200 tasks are answered in %d writes", n)
		}
	})
}

func TestAPipeServesAsASocketDoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{LineTimeout: 100 * time.Millisecond})
		ours, theirs := net.Pipe()
		over := make(chan bool)
		go d.Serve(theirs, time.Now(), func() { close(over) })
		v := newVisitor(t, ours)
		v.say(echoLine(1))
		v.want(done(1))
		v.say(lazyLine(2) + echoLine(3))
		v.want(done(3))
		d.gates.open <- struct{}{}
		v.want(done(2))
		v.say(`{"id":4,`)
		v.want(`{"id":null,"status":"error","code":"line_timeout",…`)
		_ = ours.Close()
		<-over
	})
}
