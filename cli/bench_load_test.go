package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// echoing returns a configuration whose connections lead to a server that sends each
// line back once it has so many of them, the last one first.
func echoing(t *testing.T, together int, lines ...string) loadConfig {
	t.Helper()
	addr := testenv.Serve(t, func(conn net.Conn) { echo(conn, together) })
	config := loadConfig{
		Connections: 1, Tasks: 100,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
		Judge: func(line []byte) ([]byte, string, error) {
			id, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
			if string(rest) == "broken" {
				return nil, "", errors.New("broken")
			}
			return id, string(rest), nil
		},
		Lost: func(err error) error { return fmt.Errorf("lost: %w", err) },
	}
	for id, line := range lines {
		config.Lines = append(config.Lines, []byte(strings.TrimSpace(fmt.Sprintf("%d %s", id, line))+"\n"))
	}
	return config
}

func echo(conn net.Conn, together int) {
	defer conn.Close()
	var held []string
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if held = append(held, line); len(held) < together {
			continue
		}
		for i := range held {
			if _, err := io.WriteString(conn, held[len(held)-1-i]); err != nil {
				return
			}
		}
		held = nil
	}
}

func runLoad(t *testing.T, config loadConfig) (*loadReport, error) {
	t.Helper()
	l, err := openLoad(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	report, err := l.Run(t.Context())
	if err == nil && l.Done() != report.Latency.Count() {
		t.Errorf("%d are done, %d are in the report", l.Done(), report.Latency.Count())
	}
	return report, err
}

func TestALoadMatchesRepliesInAnyOrder(t *testing.T) {
	t.Parallel()
	report, err := runLoad(t, echoing(t, 4, "", "", "", ""))
	if err != nil || report.Latency.Count() != 100 || report.Failed != 0 {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestALoadSendsExactlyTheTasksItHas(t *testing.T) {
	t.Parallel()
	config := echoing(t, 1, "")
	config.Connections, config.Tasks = 7, 5
	report, err := runLoad(t, config)
	if err != nil || report.Latency.Count() != 5 {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestALoadCountsTheTasksThatFail(t *testing.T) {
	t.Parallel()
	report, err := runLoad(t, echoing(t, 2, "", "no such action"))
	if err != nil || report.Failed != 50 || report.Fault != "no such action" {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestALoadEndsWithItsDuration(t *testing.T) {
	t.Parallel()
	config := echoing(t, 1, "")
	config.Tasks, config.Duration = 0, 50*time.Millisecond
	report, err := runLoad(t, config)
	if err != nil || report.Latency.Count() == 0 || report.Took < config.Duration {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestALoadEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	if _, err := runLoad(t, echoing(t, 1, "broken")); err == nil || err.Error() != "broken" {
		t.Errorf("a reply that is refused: %v", err)
	}
	config := echoing(t, 1, "")
	config.Lines = [][]byte{[]byte("7\n")}
	if _, err := runLoad(t, config); err == nil || !strings.Contains(err.Error(), `the id "7", which was not sent`) {
		t.Errorf("a reply to nothing: %v", err)
	}
	config = echoing(t, 1, "")
	config.Dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		return near, far.Close()
	}
	if _, err := runLoad(t, config); err == nil || !strings.HasPrefix(err.Error(), "lost: ") {
		t.Errorf("a connection that is closed: %v", err)
	}
	config.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") }
	if _, err := openLoad(t.Context(), config); err == nil || err.Error() != "nobody there" {
		t.Errorf("a connection that cannot be made: %v", err)
	}
}

func TestALoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := openLoad(t.Context(), echoing(t, 2, "")) // the server waits for a second line
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestALongReplyIsReadWhole(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*loadReadBytes)
	report, err := runLoad(t, echoing(t, 1, long))
	if err != nil || report.Fault != long {
		t.Errorf("%v, a fault of %d bytes", err, len(report.Fault))
	}
}
