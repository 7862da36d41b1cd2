package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/wire"
)

func TestASourcePreparesEachLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		file    string
		timeout time.Duration
		want    string // what is sent; or what is refused, after a !
	}{
		{name: "as it is", file: `{"id":1,"action":"echo","payload":[1, 2.50]}` + "\n", want: `1 1 echo [1, 2.50] 0s`},
		{name: "without a line ending", file: `{"id":"ñ","action":"echo"}`, want: `1 "ñ" echo  0s`},
		{name: "with a carriage return and spaces", file: " {\"id\":1,\"action\":\"echo\"}\t\r\n", want: `1 1 echo  0s`},
		{name: "with a byte order mark", file: "\ufeff" + `{"id":1,"action":"echo"}`, want: `1 1 echo  0s`},
		{name: "without an id", file: "\n\n" + `{"action":"echo"}`, want: `3 3 echo  0s`},
		{name: "with the id null", file: `{"id":null,"action":"echo"}`, want: `1 null echo  0s`},
		{name: "without a timeout", file: `{"id":1,"action":"echo"}`, timeout: 1500 * time.Millisecond, want: `1 1 echo  1.5s`},
		{name: "with a timeout", file: `{"id":1,"action":"echo","timeout":3}`, timeout: time.Second, want: `1 1 echo  3s`},
		{name: "with an escape in the action", file: `{"id":1,"action":"\u0065cho"}`, want: `1 1 echo  0s`},
		{name: "no JSON", file: "hola\n", want: "!1  invalid_json: invalid json"},
		{name: "another op", file: `{"id":"x","op":"ping"}`, want: `!1 "x" invalid_request: op ping cannot be streamed here, only run`},
		{name: "a value out of range", file: `{"id":7,"action":"echo","timeout":1e9}`, want: "!1 7 invalid_request: "},
		{name: "a line that is too long", file: `{"id":1,"action":"echo","payload":"` + strings.Repeat("x", 3<<20) + "\"}\n", want: "!1  the line is longer than 1 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := readSource(t, c.file, c.timeout)
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got %.300q, want %q", got, c.want)
			}
		})
	}
}

// TestASourceGoesOnAfterALineThatIsTooLong makes sure that the next line is whole.
func TestASourceGoesOnAfterALineThatIsTooLong(t *testing.T) {
	t.Parallel()
	file := strings.Repeat("x", 5<<20) + "\n" + `{"id":2,"action":"echo"}` + "\n"
	got := readSource(t, file, 0)
	if len(got) != 2 || !strings.HasPrefix(got[0], "!1") || got[1] != "2 2 echo  0s" {
		t.Errorf("got %.200q", got)
	}
}

// readSource returns what a source sends, as lines, and after a ! what it refuses.
func readSource(t *testing.T, file string, timeout time.Duration) []string {
	t.Helper()
	var got []string
	s := &source{name: "file", op: wire.OpRun, defaults: client.EnqueueOptions{Timeout: timeout}}
	s.refused = func(line int, id []byte, why string) { got = append(got, fmt.Sprintf("!%d %s %s", line, id, why)) }
	for from, request := range s.tasks(t.Context(), strings.NewReader(file)) {
		got = append(got, fmt.Sprintf("%d %s %s %s %s", from.line, from.id, request.Action, request.Payload, request.Timeout))
	}
	if s.err != nil {
		t.Error(s.err)
	}
	return got
}

// TestASourceReadsNoFurtherThanItsTasksAreTaken keeps a large file from being held in
// memory: only so many bytes may be open.
func TestASourceReadsNoFurtherThanItsTasksAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{name: "file", op: wire.OpRun}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		file := &endlessLines{line: `{"action":"echo","payload":"` + strings.Repeat("x", 1<<19) + "\"}\n"}
		open := int64(0)
		for from := range s.tasks(ctx, file) {
			open += from.size
		}
		synctest.Wait()
		if open > heldBytes || open < heldBytes/2 || s.bytes.Load() > 2*heldBytes {
			t.Errorf("%d bytes are open and %d were read, want at most %d open", open, s.bytes.Load(), heldBytes)
		}
	})
}

// endlessLines is a file with the same line again and again.
type endlessLines struct {
	line string
	at   int
}

func (e *endlessLines) Read(p []byte) (int, error) {
	n := copy(p, e.line[e.at:])
	e.at = (e.at + n) % len(e.line)
	return n, nil
}
