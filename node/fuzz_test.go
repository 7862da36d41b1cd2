package node_test

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// fuzzLine is the line limit of the fuzzed node in bytes. It is short, so that the fuzzer finds
// longer lines.
const fuzzLine = 4 << 10

// FuzzDoor sends bytes to a node with a store and closes its write side. The node must not
// panic. It must answer every request with exactly one line of strict JSON with a known status
// or code and the id of the request, and an enqueue that waits with one more; only requests of
// workers have any number of replies. It must end the connection, unless an enqueue waits for ever.
func FuzzDoor(f *testing.F) {
	addSeeds(f)
	server := openStage(f, node.Config{
		Actions: withoutSleep(), // a fuzzer would sleep for an hour
		Limits:  task.Limits{Line: fuzzLine, TaskTimeout: 2 * time.Second, LineTimeout: patience},
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true},
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 1<<20 {
			t.Skip("more than a fuzzer needs")
		}
		if len(sent) > 0 && (sent[0] == 0x16 || 'A' <= sent[0] && sent[0] <= 'Z') {
			exchange(t, server.addr, sent, debts{}) // the answers of TLS and HTTP are different
			return
		}
		owed := owed(sent)
		checkReplies(t, exchange(t, server.addr, sent, owed), owed)
	})
}

// workerReplies is more than the number of replies to one request of a worker here. How many there are depends on the
// tasks and on when the client ends its side; a request may also have none.
const workerReplies = 1_000

// debts counts the replies that are due, by the ids of their requests.
type debts struct {
	due   map[string]int
	later map[string]int // replies that arrive when a task is finished, perhaps never
}

// arePaid reports whether all replies that are due at once have arrived.
func (d debts) arePaid(got map[string]int) bool {
	for id, count := range d.due {
		if got[id] < count {
			return false
		}
	}
	return true
}

// withoutSleep returns the built-in actions that take no time.
func withoutSleep() []actions.Action {
	return slices.DeleteFunc(actions.Builtin(), func(a actions.Action) bool { return a.Name == "sleep" })
}

// addSeeds adds the transcripts, whole and line by line, the hostile lines that are not large,
// and the hostile HTTP requests.
func addSeeds(f *testing.F) {
	files, err := filepath.Glob("../wire/testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("there are no transcripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var whole strings.Builder
		for line := range strings.Lines(string(text)) {
			if line, found := strings.CutPrefix(line, "→ "); found {
				whole.WriteString(line)
				f.Add([]byte(line))
			}
		}
		f.Add([]byte(whole.String()))
	}
	for _, c := range hostileLines() {
		if len(c.line) <= 2*fuzzLine {
			f.Add([]byte(c.line))
			f.Add([]byte(c.line + "\r\n{}"))
		}
	}
	for _, c := range hostileRequests() {
		if len(c.sent) <= 2*fuzzLine {
			f.Add([]byte(c.sent))
		}
	}
}

// exchange sends bytes and returns everything that it receives until the connection ends, or,
// if a request may be open for ever, until all due replies have arrived.
func exchange(t *testing.T, addr string, sent []byte, owed debts) []byte {
	t.Helper()
	// Each connection leaves its port in TIME_WAIT; there are many loopback addresses.
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{
		IP: net.IPv4(127, 1, byte(rand.IntN(256)), byte(1+rand.IntN(254))),
	}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = conn.Write(sent) // a node that has refused the connection may have closed it
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var received []byte
	got, in := map[string]int{}, bufio.NewReader(conn)
	for len(owed.later) == 0 || !owed.arePaid(got) {
		line, err := in.ReadBytes('\n')
		received = append(received, line...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the connection does not end; received so far: %q", received)
		}
		if err != nil {
			break
		}
		id, _ := checkReply(bytes.TrimSuffix(line, []byte("\n")))
		got[id]++
	}
	return received
}

// smallHTTP matches a line that looks like the first one of an HTTP request, which ends the connection.
var smallHTTP = regexp.MustCompile(`(?is)^[^{\["]*? .*http/[^ ]+$`)

// owed counts the due replies by id, according to the parser. A line that is too long and an
// unknown token end the connection.
func owed(sent []byte) debts {
	ids, later := map[string]int{}, map[string]int{}
	lines := bytes.Split(bytes.TrimPrefix(sent, []byte("\ufeff")), []byte("\n"))
	for _, line := range lines {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(bytes.Trim(line, " \t\r")) == 0 && len(line) <= fuzzLine {
			continue
		}
		if len(line) > fuzzLine {
			ids["null"]++
			break
		}
		var request wire.Request
		refusal := request.Parse(line, wire.OpRun)
		id := "null"
		if request.ID != nil {
			id = string(request.ID)
		}
		if refusal == nil && request.Op.IsOfWorker() {
			later[id] += workerReplies
			continue
		}
		ids[id]++
		if refusal != nil && refusal.Code == task.InvalidJSON && smallHTTP.Match(line) {
			break
		}
		if refusal == nil && request.Validate() == nil && request.Options.Wait {
			later[id]++
		}
	}
	return debts{ids, later}
}

// checkReplies compares the received replies with the due ones.
func checkReplies(t *testing.T, received []byte, owed debts) {
	t.Helper()
	got := map[string]int{}
	for line := range bytes.Lines(received) {
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			t.Fatalf("the last reply has no line end: %q", line)
		}
		id, err := checkReply(text)
		if err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		got[id]++
	}
	for id, count := range got {
		if most := owed.due[id] + owed.later[id]; count > most {
			t.Errorf("got %d replies with the id %s, want at most %d:\n%s", count, id, most, received)
		}
	}
	if !owed.arePaid(got) {
		t.Errorf("got replies with the ids %v, want %v:\n%s", got, owed.due, received)
	}
}

// checkReply checks a reply and returns its id.
func checkReply(line []byte) (id string, err error) {
	var reply wire.Reply
	if err := reply.Parse(line); err != nil {
		return "", err
	}
	switch reply.Status {
	case wire.StatusDone:
		if reply.Result == nil {
			return "", errors.New("the reply is done and has no result")
		}
	case wire.StatusError:
		if !slices.Contains(task.Codes(), reply.Code) || reply.Error == "" {
			return "", errors.New("the refusal has an unknown code or no words")
		}
		if reply.Code == task.Internal {
			return "", errors.New("the node has failed")
		}
	case wire.StatusGoaway:
		return "", errors.New("the node says goodbye")
	case wire.StatusReady, wire.StatusCancelling: // a run that another node passed on is cancelled by its id
	default:
		if reply.Task == "" && reply.Lease == "" { // a direct task has only a lease, at its worker
			return "", errors.New("the reply has the status of a task and names none")
		}
	}
	if reply.ID == nil {
		return "null", nil
	}
	return string(reply.ID), nil
}
