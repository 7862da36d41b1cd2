package load

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// answering answers each line with what reply makes of its id.
func answering(reply func(id string) string) func(net.Conn) {
	return testenv.AnswerLines(func(line string) string { return reply(line[len(replyHead) : len(replyHead)+idWidth]) })
}

func done(id string) string { return replyHead + id + replyTail }

func short() Timing { return Timing{Warmup: 5 * time.Millisecond, Measured: 20 * time.Millisecond} }

func TestMeasureCountsTheReplies(t *testing.T) {
	t.Parallel()
	to := Target{Addr: testenv.Serve(t, answering(done))}
	for _, s := range []Shape{{1, 1}, {3, 1}, {2, 16}} {
		got, err := Measure(t.Context(), to, s, short())
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		if got.Rate <= 0 || (s.Depth == 1) != (got.P50 > 0) || got.P99 < got.P50 {
			t.Errorf("%v: implausible: %+v", s, got)
		}
	}
}

func TestMeasureFailsOnAWrongReply(t *testing.T) {
	t.Parallel()
	refused := func(id string) string {
		return fmt.Sprintf(`{"id":%s,"status":"error","code":"overloaded","error":"no"}`+"\n", id)
	}
	foreign := func(string) string { return done("99999999") }
	twice := func(id string) string { return done(id) + done(id) }
	for name, reply := range map[string]func(string) string{"overloaded": refused, "never sent": foreign, "at most": twice} {
		_, err := Measure(t.Context(), Target{Addr: testenv.Serve(t, answering(reply))}, Shape{1, 1}, short())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestMeasureFailsWhenAConnectionBreaks(t *testing.T) {
	t.Parallel()
	to := Target{Addr: testenv.Serve(t, func(conn net.Conn) { conn.Close() })}
	if _, err := Measure(t.Context(), to, Shape{2, 4}, short()); err == nil {
		t.Error("a load on connections that break succeeded")
	}
}

func TestMeasureStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Measure(ctx, Target{Addr: testenv.Serve(t, answering(done))}, Shape{1, 1}, Timing{0, time.Hour}); err == nil {
		t.Error("an hour passed quickly")
	}
}

func TestVerifyFindsARepeatedID(t *testing.T) {
	t.Parallel()
	if err := Verify(t.Context(), testenv.Serve(t, answering(done))); err != nil {
		t.Errorf("right replies: %v", err)
	}
	always := func(string) string { return done(fmt.Sprint(FirstID)) }
	if err := Verify(t.Context(), testenv.Serve(t, answering(always))); err == nil {
		t.Error("one id for all replies was accepted")
	}
}

func TestScriptSendsDifferentIDsOfOneLength(t *testing.T) {
	t.Parallel()
	s := NewScript(15, 128, "upper")
	var all []byte
	for range 5 {
		all = append(all, s.Take(100)...)
	}
	seen := map[string]int{}
	for i, line := range strings.Split(strings.TrimSuffix(string(all), "\n"), "\n") {
		if len(line)+1 != s.size {
			t.Fatalf("line %d: %q", i, line)
		}
		if last, again := seen[line]; again && i-last < s.ring {
			t.Errorf("request %d repeats %d while that may be in flight", i, last)
		}
		seen[line] = i
	}
}

func TestProcessFiguresAreReadFromProc(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc")
	}
	if n, err := Memory(os.Getpid(), "VmRSS"); err != nil || n < 1<<20 {
		t.Errorf("resident memory: %d, %v", n, err)
	}
	if _, err := Memory(os.Getpid(), "VmNothing"); err == nil {
		t.Error("a missing field was read")
	}
	if CPUTime(0) != 0 {
		t.Error("no process used processor time")
	}
}

func TestIdleConnectionsAreServedAgain(t *testing.T) {
	t.Parallel()
	idle, err := Open(t.Context(), testenv.Serve(t, answering(done)), 50)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if served, err := idle.Serve(); served != 50 || err != nil {
		t.Errorf("%d of 50 were served again, %v", served, err)
	}
	idle.conns[7].Close()
	if served, err := idle.Serve(); served != 49 || err == nil {
		t.Errorf("%d of 49 were served again, %v", served, err)
	}
}
