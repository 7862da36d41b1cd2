package lineapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestMain has the tests wait beside each other, which most of them do.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// door is a server of lines on a loopback port.
type door struct {
	*Server
	t        testing.TB
	addr     string
	executor *executor.Executor
	gates    *gates
	wrap     []func(net.Conn) net.Conn
	inMemory bool           // connections are no sockets
	serving  sync.WaitGroup // those in memory
}

// gates are tasks that begin when they like and end when the test says so.
type gates struct {
	begun chan struct{} // one for each task that has begun
	open  chan struct{} // one for each task that may end
	ended chan error    // why the context of a task that was not let through has ended
	count atomic.Int64
}

// wait is the action of the gates.
func (g *gates) wait(ctx context.Context, call *actions.Call) (any, error) {
	g.count.Add(1)
	g.begun <- struct{}{}
	select {
	case <-g.open:
		return call.Payload, nil
	case <-ctx.Done():
		g.ended <- ctx.Err()
		return nil, ctx.Err()
	}
}

// grind computes for a fifth of a millisecond.
func grind(_ context.Context, call *actions.Call) (any, error) {
	for begun := time.Now(); time.Since(begun) < 200*time.Microsecond; {
	}
	return call.Payload, nil
}

// inBubble runs a test in which time passes when everybody waits. Doors are opened in it by openHatch.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// openHatch is openDoor for bubbles: its connections are in memory.
func openHatch(t *testing.T, config Config, limits task.Limits) *door {
	d := newDoor(t, config, limits)
	d.inMemory = true
	t.Cleanup(func() { d.close(); d.serving.Wait() })
	return d
}

// openDoor starts a server with the built-in actions, a slow action gate, and the same one
// as lazy, which does not say that it is slow. What wrap makes of its connections is served.
func openDoor(t testing.TB, config Config, limits task.Limits, wrap ...func(net.Conn) net.Conn) *door {
	t.Helper()
	d := newDoor(t, config, limits)
	d.wrap = wrap
	d.listen()
	return d
}

// newDoor makes the server of openDoor.
func newDoor(t testing.TB, config Config, limits task.Limits) *door {
	t.Helper()
	g := &gates{begun: make(chan struct{}, 20_000), open: make(chan struct{}, 20_000), ended: make(chan error, 20_000)}
	registry, err := actions.NewRegistry(append(actions.Builtin(), actions.Action{Name: "gate", Run: g.wait, Slow: true}, actions.New("lazy", g.wait), actions.New("grind", grind),
		actions.New("exit", func(context.Context, *actions.Call) (any, error) { runtime.Goexit(); return nil, nil }),
		actions.New("panic", func(context.Context, *actions.Call) (any, error) { panic("boom") }))...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Registry: registry, Slots: limits.Slots, QuickSlots: max(limits.QuickSlots, 1)})
	if err != nil {
		t.Fatal(err)
	}
	config.Executor, config.Limits, config.Node = e, limits, "n1"
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &door{Server: s, t: t, executor: e, gates: g}
}

// close ends the server without patience.
func (d *door) close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	d.Close(ended)
	if err := d.executor.Close(ended); err != nil {
		d.t.Error(err)
	}
}

// listen accepts connections until the test ends, and wants all of them to be over soon then.
func (d *door) listen() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			for _, wrap := range d.wrap {
				conn = wrap(conn)
			}
			serving.Go(func() { d.Serve(conn, time.Now(), func() {}) })
		}
	})
	d.t.Cleanup(func() {
		_ = listener.Close()
		d.close()
		serving.Wait()
	})
}

// visitor is a client.
type visitor struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (d *door) visit() *visitor {
	d.t.Helper()
	if d.inMemory {
		client, server := testenv.NewDuplex()
		d.serving.Go(func() { d.Serve(server, time.Now(), func() {}) })
		return newVisitor(d.t, client)
	}
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	return newVisitor(d.t, conn)
}

func newVisitor(t testing.TB, conn net.Conn) *visitor {
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &visitor{t: t, conn: conn, in: bufio.NewReaderSize(conn, 2<<20)}
}

// say sends text as it is.
func (v *visitor) say(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v.conn, text); err != nil {
		v.t.Fatalf("sending: %v", err)
	}
}

// readLine reads the next line.
func (v *visitor) readLine() string {
	v.t.Helper()
	line, err := v.in.ReadString('\n')
	if err != nil {
		v.t.Fatalf("after %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// want reads these lines, in this order; one that ends in an ellipsis may have more.
func (v *visitor) want(lines ...string) {
	v.t.Helper()
	for _, want := range lines {
		got := v.readLine()
		if begin, more := strings.CutSuffix(want, "…"); got != want && (!more || !strings.HasPrefix(got, begin)) {
			v.t.Errorf("received %.300s\n want %.300s", got, want)
		}
	}
}

// wantThese is want for lines that may come in any order.
func (v *visitor) wantThese(lines ...string) {
	v.t.Helper()
	for range lines {
		got := v.readLine()
		i := slices.IndexFunc(lines, func(want string) bool {
			begin, more := strings.CutSuffix(want, "…")
			return got == want || more && strings.HasPrefix(got, begin)
		})
		if i < 0 {
			v.t.Errorf("received %.300s\n want one of %.300q", got, lines)
			continue
		}
		lines = slices.Delete(slices.Clone(lines), i, i+1)
	}
}

// wantAll reads the replies to echoes of ids below n, in any order: on a busy machine each of
// them may outgrow its lane and come later.
func (v *visitor) wantAll(n int) {
	v.t.Helper()
	received := map[string]bool{}
	for range n {
		received[v.readLine()] = true
	}
	for id := range n {
		if !received[done(id)] {
			v.t.Errorf("there is no %s", done(id))
		}
	}
}

// finish ends the client's side.
func (v *visitor) finish() {
	v.t.Helper()
	if err := v.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		v.t.Fatal(err)
	}
}

// wantEnd wants the server to have no more to say.
func (v *visitor) wantEnd() {
	v.t.Helper()
	if line, err := v.in.ReadString('\n'); err != io.EOF || line != "" {
		v.t.Errorf("received %.300q, %v; want the end", line, err)
	}
}

// reset breaks the connection.
func (v *visitor) reset() {
	_ = v.conn.(*net.TCPConn).SetLinger(0)
	_ = v.conn.Close()
}

// eventually polls, for what has no event to wait for.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not happen", what)
		}
		<-time.After(time.Millisecond)
	}
}

// wantBegun waits for a gate's task to begin.
func (d *door) wantBegun(n int) {
	d.t.Helper()
	for i := range n {
		select {
		case <-d.gates.begun:
		case <-time.After(patience):
			d.t.Fatalf("%d tasks begin, want %d", i, n)
		}
	}
}

// wantCancelled waits for the contexts of tasks to be cancelled.
func (d *door) wantCancelled(n int) {
	d.t.Helper()
	for i := range n {
		select {
		case err := <-d.gates.ended:
			if !errors.Is(err, context.Canceled) {
				d.t.Errorf("a task's context ends with %v", err)
			}
		case <-time.After(patience):
			d.t.Fatalf("%d tasks are cancelled, want %d", i, n)
		}
	}
}

func gateLine(id int) string {
	return fmt.Sprintf(`{"id":%d,"action":"gate","payload":%d}`+"\n", id, id)
}
func lazyLine(id int) string {
	return fmt.Sprintf(`{"id":%d,"action":"lazy","payload":%d}`+"\n", id, id)
}
func echoLine(id int) string {
	return fmt.Sprintf(`{"id":%d,"action":"echo","payload":%d}`+"\n", id, id)
}

// done is the reply to each of these lines.
func done(id int) string {
	return fmt.Sprintf(`{"id":%d,"status":"done","result":{"ok":true,"data":%d}}`, id, id)
}

// heap is the memory in use once garbage is collected.
func heap() int {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
