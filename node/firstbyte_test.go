package node

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// soon returns a deadline that a working test does not reach.
func soon() time.Time { return time.Now().Add(time.Minute) }

// rest closes the client's write side and returns the remaining bytes of the connection.
func rest(t *testing.T, client, server *net.TCPConn) string {
	t.Helper()
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(server)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheFirstByteStaysInTheSocket(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"{", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "\x00"} {
		client, server := testenv.TCPPair(t)
		if _, err := client.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			first, err := firstByte(server, soon())
			if err != nil || first != sent[0] {
				t.Fatalf("firstByte = %q, %v; want %q", first, err, sent[0])
			}
		}
		if got := rest(t, client, server); got != sent {
			t.Errorf("the door read %q, want %q", got, sent)
		}
	}
}

func TestFirstByteWaitsForAByte(t *testing.T) {
	t.Parallel()
	client, server := testenv.TCPPair(t)
	type answer struct {
		first byte
		err   error
	}
	answers := make(chan answer)
	go func() {
		first, err := firstByte(server, time.Time{})
		answers <- answer{first, err}
	}()
	select {
	case early := <-answers:
		t.Fatalf("firstByte = %+v before anything was sent", early)
	default:
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := <-answers; got.err != nil || got.first != 'x' {
		t.Errorf("firstByte = %+v, want x", got)
	}
}

func TestFirstByteFailsAtTheDeadlineAndAtTheEnd(t *testing.T) {
	t.Parallel()
	client, server := testenv.TCPPair(t)
	if _, err := firstByte(server, time.Now().Add(10*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := firstByte(server, soon()); !errors.Is(err, io.EOF) {
		t.Errorf("after the client has closed: %v, want EOF", err)
	}
	client, server = testenv.TCPPair(t)
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := firstByte(server, soon()); err == nil {
		t.Error("after a reset: no error")
	}
	server.Close()
	if _, err := firstByte(server, soon()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
}

func TestFirstByteLeavesNoDeadline(t *testing.T) {
	t.Parallel()
	client, server := testenv.TCPPair(t)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := firstByte(server, time.Time{}); err != nil { // the byte has arrived
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Second)
	if _, err := firstByte(server, deadline); err != nil {
		t.Fatal(err)
	}
	_, other := testenv.TCPPair(t)
	if err := other.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) { // the deadline has passed
		t.Fatal(err)
	}
	client.Close()
	if text, err := io.ReadAll(server); err != nil || string(text) != "x" {
		t.Errorf("read %q, %v; the deadline of the first byte is still there", text, err)
	}
}

func TestAWaitingConnectionNeedsNoBuffer(t *testing.T) {
	const connections = 200
	var before, after runtime.MemStats
	servers := make([]*net.TCPConn, connections)
	for i := range servers {
		_, servers[i] = testenv.TCPPair(t)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	ended := make(chan error, connections)
	for _, server := range servers {
		go func() {
			_, err := firstByte(server, time.Time{})
			ended <- err
		}()
	}
	for stacks := make([]byte, 8<<20); ; { // until all wait
		waiting := 0
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "[IO wait") && strings.Contains(stack, "node.firstByte(") {
				waiting++
			}
		}
		if waiting >= connections {
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
			runtime.Gosched()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / connections; each > 1024 {
		t.Errorf("a waiting connection holds %d bytes of heap, want at most 1024", each)
	}
	for _, server := range servers {
		server.Close()
	}
	for range servers {
		<-ended
	}
}
