package lineapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

func TestANewServerChecksItsConfig(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{})
	for _, bad := range []Config{
		{}, {Executor: d.executor, Limits: task.Limits{Line: -1}}, {Executor: d.executor, DefaultOp: "ping"}, {Executor: d.executor, DefaultOp: "nope"},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestNoMoreIsReadThanTheWindowAllows(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]task.Limits{
		"by number": {Slots: 64, Window: 4},
		"by bytes":  {Slots: 64, WindowBytes: 400}, // of payloads of 100 bytes
	} {
		for _, action := range []string{"gate", "lazy"} {
			t.Run(name+" "+action, func(t *testing.T) {
				inBubble(t, func(t *testing.T) { readWithinWindow(t, limits, action) })
			})
		}
	}
}

func readWithinWindow(t *testing.T, limits task.Limits, action string) {
	d := openHatch(t, Config{}, limits)
	v := d.visit()
	line := fmt.Sprintf(`{"action":%q,"payload":%q}`+"\n", action, strings.Repeat("x", 98))
	go v.say(strings.Repeat(line, 50) + echoLine(1))
	d.wantBegun(4)
	synctest.Wait() // for more to begin, which must not
	if n := d.gates.count.Load(); n != 4 {
		t.Errorf("%d tasks have begun, the window has room for 4", n)
	}
	other := d.visit()
	other.say(echoLine(2))
	other.want(done(2))
	for range 50 {
		d.gates.open <- struct{}{}
	}
	for range 51 {
		v.want(`{"id":…`)
	}
	v.finish()
	v.wantEnd()
}

// TestAWindowThatIsFullForLongIsNotTheClientsFault has more lines than a read buffer
// holds, so that one of them is in two pieces while nothing is read.
func TestAWindowThatIsFullForLongIsNotTheClientsFault(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{Slots: 64, Window: 2, LineTimeout: 150 * time.Millisecond, Idle: 150 * time.Millisecond})
		v := d.visit()
		const tasks = 20
		line := `{"action":"gate","payload":"` + strings.Repeat("x", 5000) + "\"}\n"
		go v.say(strings.Repeat(line, tasks))
		d.wantBegun(2)
		<-time.After(400 * time.Millisecond)
		for range tasks {
			d.gates.open <- struct{}{}
		}
		for range tasks {
			v.want(`{"id":null,"status":"done",…`)
		}
	})
}

// TestIdleTimeBeginsWhenTheLastRequestIsAnswered: after a reply, the client has the whole idle time for its next request.
func TestIdleTimeBeginsWhenTheLastRequestIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{Idle: 300 * time.Millisecond})
		v := d.visit()
		v.say(gateLine(1))
		d.wantBegun(1)
		<-time.After(550 * time.Millisecond)
		d.gates.open <- struct{}{}
		v.want(done(1))
		answered := time.Now()
		v.want(`{"id":null,"status":"goaway","code":"idle","retry_after":0}`)
		if quiet := time.Since(answered); quiet != 300*time.Millisecond {
			t.Errorf("goaway comes %s after the reply", quiet)
		}
		v.wantEnd()
	})
}

// TestALineThatCrossesTheGoawayOfAnIdleConnectionIsAnswered sends a task when the server has just said goaway:
// every line that it receives is still answered.
func TestALineThatCrossesTheGoawayOfAnIdleConnectionIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{Idle: 300 * time.Millisecond})
		v := d.visit()
		v.say(echoLine(1))
		v.want(done(1), `{"id":null,"status":"goaway","code":"idle","retry_after":0}`)
		v.say(echoLine(2))
		v.finish()
		v.want(done(2))
		v.wantEnd()
	})
}

// TestAClientThatNeverReadsIsClosedAndDoesNotAffectOthers lets one send until nothing goes any more.
func TestAClientThatNeverReadsIsClosedAndDoesNotAffectOthers(t *testing.T) {
	for _, action := range []string{"echo", "gate"} {
		var log testenv.Buffer
		d := openDoor(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, task.Limits{WriteTimeout: 500 * time.Millisecond, Slots: 4})
		if action == "gate" {
			close(d.gates.open)
		}
		before := heap()
		glutton := d.visit()
		line := fmt.Sprintf(`{"id":1,"action":%q,"payload":%q}`+"\n", action, strings.Repeat("x", 50_000))
		var sending sync.WaitGroup
		sending.Go(func() {
			for {
				if _, err := io.WriteString(glutton.conn, line); err != nil {
					return
				}
			}
		})
		most, other := 0, d.visit()
		for n := 0; d.Stats().SlowConsumers == 0; n++ {
			other.say(echoLine(n))
			other.want(done(n))
			if n%100 == 0 {
				most = max(most, heap()-before)
			}
			<-time.After(time.Millisecond)
		}
		sending.Wait()
		if most > 24<<20 {
			t.Errorf("the node held %d MiB for a client that does not read", most>>20)
		}
		eventually(t, "the end of the connection", func() bool { return d.Stats().Open == 1 })
		if stats := d.Stats(); stats.SlowConsumers != 1 || stats.Refusals[task.SlowConsumer] != 1 || !strings.Contains(log.String(), "code=slow_consumer") {
			t.Errorf("%+v, the log has\n%s", stats, log.String())
		}
	}
}

// TestAClientThatReadsLateIsNoSlowConsumer: it paused once, for less than the write timeout,
// and long ago.
func TestAClientThatReadsLateIsNoSlowConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{WriteTimeout: 400 * time.Millisecond})
		v := d.visit()
		line := fmt.Sprintf(`{"id":1,"action":"echo","payload":%q}`+"\n", strings.Repeat("x", 900_000))
		var sending sync.WaitGroup
		sending.Go(func() { v.say(strings.Repeat(line, 20)) })
		<-time.After(150 * time.Millisecond)
		for range 20 {
			v.want(`{"id":1,"status":"done",…`)
		}
		sending.Wait()
		<-time.After(600 * time.Millisecond)
		v.say(echoLine(2))
		v.want(done(2))
		if n := d.Stats().SlowConsumers; n != 0 {
			t.Errorf("%d slow consumers", n)
		}
	})
}

// TestTenThousandPipelinedTasksNeedNoMoreMemoryThanAWindow bounds what makes up the memory: the tasks that the node has
// taken up and not answered. What they take is measured by BenchmarkPipelinedMemory.
func TestTenThousandPipelinedTasksNeedNoMoreMemoryThanAWindow(t *testing.T) {
	t.Parallel()
	const tasks, window = 10_000, 64
	d := openDoor(t, Config{}, task.Limits{Slots: 8, Window: window})
	most := pipeline(t, d, tasks, func() int {
		s := d.executor.Stats()
		return s.SlotsBusy + s.Waiting
	})
	if most > window {
		t.Errorf("%d tasks were taken up and not answered, the window has room for %d", most, window)
	}
}

// BenchmarkPipelinedMemory shows how much more a node has on its heap, and how many more goroutines, while a client
// pipelines ten thousand tasks.
func BenchmarkPipelinedMemory(b *testing.B) {
	for b.Loop() {
		d := openDoor(b, Config{}, task.Limits{Slots: 8})
		bytes, goroutines := heap(), runtime.NumGoroutine()
		mostBytes, mostGoroutines := 0, 0
		pipeline(b, d, 10_000, func() int {
			mostBytes, mostGoroutines = max(mostBytes, heap()-bytes), max(mostGoroutines, runtime.NumGoroutine()-goroutines)
			return 0
		})
		b.ReportMetric(float64(mostBytes>>10), "KiB")
		b.ReportMetric(float64(mostGoroutines), "goroutines")
	}
}

// pipeline sends quick and slow tasks, all at once, and returns the most that look has seen while the replies came.
func pipeline(t testing.TB, d *door, tasks int, look func() int) (most int) {
	t.Helper()
	v := d.visit()
	var sending sync.WaitGroup
	sending.Go(func() {
		var lines strings.Builder
		for id := range tasks {
			fmt.Fprintf(&lines, `{"id":%d,"action":"%s","payload":0.0001,"timeout":10}`+"\n", id, []string{"sleep", "echo"}[id%2])
		}
		v.say(lines.String())
		v.finish()
	})
	seen := make(map[string]bool, tasks)
	for n := range tasks {
		line := v.readLine()
		id, _, ok := strings.Cut(line, `,"status":"done","result":{"ok":true`)
		if !ok || seen[id] {
			t.Fatalf("received %s", line)
		}
		seen[id] = true
		if n%1000 == 0 {
			most = max(most, look())
		}
	}
	v.wantEnd()
	sending.Wait()
	return most
}

func TestAResetCancelsTheTasksThatRun(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprint("after a half-close ", half), func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, Config{}, task.Limits{Slots: 2})
			v := d.visit()
			v.say(lazyLine(1) + gateLine(2) + gateLine(3) + gateLine(4) + gateLine(5))
			d.wantBegun(2)
			if half {
				v.finish() // whether the node sees it before the reset does not matter
			}
			v.reset()
			d.wantCancelled(2)
			eventually(t, "idleness", func() bool { s := d.executor.Stats(); return s.SlotsBusy == 0 && s.Waiting == 0 && d.Stats().Open == 0 })
		})
	}
}

func TestALineMustBeCompletedInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{LineTimeout: 200 * time.Millisecond})
		v := d.visit()
		v.say(gateLine(1) + `{"id":2,`)
		d.wantBegun(1)
		drip := time.NewTicker(20 * time.Millisecond) // each byte in time, the line is not
		defer drip.Stop()
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for range 30 {
				<-drip.C
				if _, err := io.WriteString(v.conn, " "); err != nil {
					return
				}
			}
		})
		begun := time.Now()
		v.want(`{"id":null,"status":"error","code":"line_timeout","error":"the line was not complete within 200ms of its first byte","limit":"line-timeout"}`)
		if took := time.Since(begun); took < 200*time.Millisecond || took > 250*time.Millisecond {
			t.Errorf("after %s", took)
		}
		d.gates.open <- struct{}{}
		v.want(done(1)) // what was received is still answered
		v.wantEnd()
		dripping.Wait()
		// Lines that are complete are never late.
		v = d.visit()
		for id := range 10 {
			<-time.After(50 * time.Millisecond)
			v.say(echoLine(id))
			v.want(done(id))
		}
	})
}

// withTokens returns a config that wants the token "secret".
func withTokens(t *testing.T) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("ci secret-secret-secret-secret-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Tokens: tokens}
}

const authLine = `{"id":"t","op":"auth","token":"secret-secret-secret-secret-secret"}` + "\n"

func TestAuthIsABarrier(t *testing.T) {
	t.Parallel()
	d := openDoor(t, withTokens(t), task.Limits{})
	v := d.visit()
	long := lineOf(60_000) + "\n"
	v.say(`{"id":1,"op":"ping"}` + "\n" + authLine + echoLine(2) + long) // a long line is allowed from here on
	v.want(`{"id":1,"status":"done",…`, `{"id":"t","status":"done","result":{"ok":true,"name":"ci","scopes":[…`, done(2), `{"id":1,"status":"done",…`)
	v.say(`{"id":"u","op":"auth","token":"wrong"}` + "\n" + echoLine(3))
	v.want(`{"id":"u","status":"error","code":"unauthenticated",…`)
	v.wantEnd()
	if d.gates.count.Load() != 0 {
		t.Error("something ran after the refusal")
	}
}

// TestATokenThatArrivedInTimeCountsAlthoughItIsReadLate: the node is so busy that it reads only after the deadline.
func TestATokenThatArrivedInTimeCountsAlthoughItIsReadLate(t *testing.T) {
	t.Parallel()
	said := authLine + echoLine(2)
	v := visitLate(t, withTokens(t), said)
	v.say(said)
	v.want(`{"id":"t","status":"done","result":{"ok":true,"name":"ci","scopes":[…`, done(2))
}

func TestSendingWithoutEndDoesNotPutOffTheDeadlineForAToken(t *testing.T) {
	t.Parallel()
	const ping, count = `{"op":"ping"}` + "\n", 100_000
	v := visitLate(t, withTokens(t), ping)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { _, _ = io.WriteString(v.conn, strings.Repeat(ping, count)) })
	answered := 0
	line := v.readLine()
	for ; strings.Contains(line, "pong"); line = v.readLine() {
		answered++
	}
	if !strings.Contains(line, "unauthenticated") || answered >= count {
		t.Errorf("%d of %d pings are answered, then %s", answered, count, line)
	}
	v.conn.Close()
}

// visitLate returns a client that connected an hour ago and has been sending since: it is served when what it says first has
// arrived.
func visitLate(t *testing.T, config Config, first string) *visitor {
	t.Helper()
	d := newDoor(t, config, task.Limits{})
	d.base = d.base.Add(-2 * time.Hour) // the server has run for longer than the connection
	client, server := testenv.TCPPair(t)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		client.Close()
		serving.Wait()
		d.close()
	})
	serving.Go(func() {
		awaitArrival(t, server, len(first))
		d.Serve(server, time.Now().Add(-time.Hour), func() {})
	})
	return newVisitor(t, client)
}

// awaitArrival waits until size bytes can be read from conn, and leaves them there.
func awaitArrival(t *testing.T, conn *net.TCPConn, size int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	if err := raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, size), syscall.MSG_PEEK)
		return n == size || err != nil && err != syscall.EAGAIN
	}); err != nil {
		t.Error(err)
	}
}

func TestWithoutATokenLittleIsAllowed(t *testing.T) {
	t.Parallel()
	d := openDoor(t, withTokens(t), task.Limits{})
	cases := map[string]string{
		`{"id":1,"action":"echo"}` + "\n" + echoLine(2):        `{"id":1,"status":"error","code":"unauthenticated",…`,
		`{"id":1,"op":"info"}` + "\n":                          `{"id":1,"status":"error","code":"unauthenticated",…`,
		`{"id":1,"action":"echo","x":1}` + "\n":                `{"id":1,"status":"error","code":"unauthenticated",…`, // before unknown fields
		strings.Repeat("x", task.UnauthenticatedLine+2):        `{"id":null,"status":"error","code":"line_too_long",…`,
		strings.Repeat(" ", task.UnauthenticatedLine+2) + "\n": `{"id":null,"status":"error","code":"line_too_long",…`,
	}
	for text, want := range cases {
		v := d.visit()
		v.say(text)
		v.want(want)
		v.wantEnd()
	}
	v := d.visit()
	v.say("nonsense\n" + `{"id":1,"op":"nope"}` + "\n" + `{"id":2,"op":"ping","x":1}` + "\n" + authLine + echoLine(3))
	v.want(`{"id":null,"status":"error","code":"invalid_json",…`, `{"id":1,"status":"error","code":"unknown_op",…`, `{"id":2,"status":"error","code":"unknown_field",…`,
		`{"id":"t","status":"done",…`, done(3))
}

// TestATokenMustComeInTimeWhateverElseComes: pings do not extend the time.
func TestATokenMustComeInTimeWhateverElseComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, withTokens(t), task.Limits{})
		v := d.visit()
		begun := time.Now()
		var pinging sync.WaitGroup
		pinging.Go(func() {
			for range 50 {
				if _, err := io.WriteString(v.conn, `{"id":1,"op":"ping"}`+"\n"); err != nil {
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		})
		line := v.readLine()
		for strings.HasPrefix(line, `{"id":1,"status":"done"`) {
			line = v.readLine()
		}
		if took := time.Since(begun); !strings.Contains(line, "unauthenticated") || took != task.UnauthenticatedTimeout {
			t.Errorf("after %s: %s", took, line)
		}
		_ = v.conn.Close()
		pinging.Wait()
	})
}

func TestDrainSaysGoawayOnceAndAnswersWhatStillComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{})
		quiet, busy, late := d.visit(), d.visit(), d.visit()
		for _, v := range []*visitor{quiet, busy, late} {
			v.say(echoLine(0))
			v.want(done(0))
		}
		busy.say(gateLine(1))
		d.wantBegun(1)
		d.Drain()
		d.Drain()
		const goaway = `{"id":null,"status":"goaway","code":"draining","retry_after":0}`
		quiet.want(goaway)
		busy.want(goaway)
		late.want(goaway)
		late.say(echoLine(2) + echoLine(3)) // it crossed the goaway
		late.want(done(2), done(3))
		quiet.wantEnd()
		late.wantEnd()
		newcomer := d.visit() // from the backlog
		newcomer.want(goaway)
		newcomer.say(echoLine(4))
		newcomer.want(done(4))
		newcomer.finish()
		newcomer.wantEnd()
		closed := make(chan bool)
		go func() { d.Close(context.Background()); close(closed) }()
		select {
		case <-closed:
			t.Error("the server closes although a request is open")
		case <-time.After(1500 * time.Millisecond): // longer than a connection may be quiet
		}
		d.gates.open <- struct{}{}
		busy.want(done(1))
		busy.wantEnd()
		<-closed
		if len(d.gates.ended) != 0 {
			t.Error("the drain has cancelled a task")
		}
	})
}

func TestCloseEndsConnectionsAsTheyAreWhenItsTimeIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{Slots: 1, Window: 3})
		var visitors []*visitor
		for range 5 {
			v := d.visit()
			v.say(gateLine(1) + gateLine(2) + gateLine(3) + gateLine(4))
			visitors = append(visitors, v)
		}
		visitors[4].finish()
		d.wantBegun(1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		d.Close(ctx)
		if n := d.Stats().Open; n != 0 {
			t.Errorf("%d connections are open", n)
		}
		for range 20 { // the tasks that had the slot one after the other
			select {
			case <-d.gates.ended:
			case <-d.gates.begun:
			default:
			}
		}
		eventually(t, "idleness", func() bool { s := d.executor.Stats(); return s.SlotsBusy == 0 && s.Waiting == 0 })
	})
}

// TestAFullQueueDoesNotDelayClose fills all the places where tasks may wait, so that
// connections wait for a place.
func TestAFullQueueDoesNotDelayClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{}, task.Limits{Slots: 1})
		source := d.executor.NewSource()
		for source.TryStart(executor.Task{Action: []byte("gate")}, func(executor.Task, []byte) {}) {
		}
		defer source.Cancel()
		for range 3 {
			v := d.visit()
			v.say(gateLine(1) + gateLine(2) + gateLine(3))
		}
		eventually(t, "reading", func() bool { return d.Stats().BytesIn >= int64(9*len(gateLine(1))) })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		d.Close(ctx)
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("closed after %s", took)
		}
	})
}

func TestAFloodOfConnectionsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	d := openDoor(t, Config{}, task.Limits{})
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for n := range 40 {
				conn, err := net.Dial("tcp", d.addr)
				if err != nil {
					t.Error(err)
					return
				}
				v := &visitor{t: t, conn: conn}
				switch (worker + n) % 4 {
				case 0:
					v.reset()
				case 1:
					_, _ = io.WriteString(conn, echoLine(n))
				case 2:
					_, _ = io.WriteString(conn, lazyLine(n))
					v.reset()
				case 3:
					_, _ = io.WriteString(conn, `{"id":`)
				}
				_ = conn.Close()
			}
		})
	}
	all.Wait()
	close(d.gates.open)
	eventually(t, "silence", func() bool {
		s := d.executor.Stats()
		return d.Stats().Open == 0 && s.SlotsBusy+s.QuickBusy+s.Waiting == 0
	})
}
