package balancer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// patience limits the waits of tests.
const patience = 2 * time.Minute

// relayTest is a relay with the connections at both ends.
type relayTest struct {
	relay        *relay
	client, node *net.TCPConn
	ended        chan struct{} // closed when run has returned
}

// startRelay returns a running relay, which ends with the test.
func startRelay(t testing.TB) *relayTest {
	t.Helper()
	s := newRelay(t)
	s.run()
	return s
}

// newRelay returns a relay whose run was not called.
func newRelay(t testing.TB) *relayTest {
	t.Helper()
	carrier := newCarrier()
	client, toClient := tcpPair(t)
	node, toNode := tcpPair(t)
	s := &relayTest{client: client, node: node, ended: make(chan struct{}), relay: carrier.join(toClient, toNode)}
	t.Cleanup(func() {
		client.Close()
		node.Close()
		s.awaitEnd(t)
		carrier.close()
	})
	return s
}

func (s *relayTest) run() {
	go func() {
		defer close(s.ended)
		s.relay.run()
	}()
}

func (s *relayTest) awaitEnd(t testing.TB) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("the relay did not end")
	}
}

// expireUntilEnded expires the relay, as if so much time had passed, until it ends.
func (s *relayTest) expireUntilEnded(t testing.TB, later time.Duration) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		s.relay.expire(time.Now().Add(later))
		select {
		case <-s.ended:
			return nil
		default:
			return errors.New("the relay did not end")
		}
	})
}

// tcpPair returns the two ends of a TCP connection; the outer one gives up after patience.
func tcpPair(t testing.TB) (outer, inner *net.TCPConn) {
	t.Helper()
	outer, inner = testenv.TCPPair(t)
	if err := outer.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return outer, inner
}

// randomBytes returns size random bytes, the same ones for each size.
func randomBytes(size int) []byte {
	bytes := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = source.Read(bytes)
	return bytes
}

// sendAndExpect writes a text to one end and checks that it arrives at the other.
func sendAndExpect(t testing.TB, from, to *net.TCPConn, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

// expectEnd checks that the stream has ended.
func expectEnd(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v, want the end of the stream", n, err)
	}
}

// expectReset checks that the connection was reset, perhaps after some bytes.
func expectReset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read ends with %v, want a reset", err)
	}
}

func TestBytesPassInBothDirections(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	for range 3 {
		sendAndExpect(t, s.client, s.node, "hola\n")
		sendAndExpect(t, s.node, s.client, "¡hola!\n")
	}
}

func TestAfterAHalfCloseOfTheClientTheNodesRepliesArrive(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "last request\n")
	if err := s.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expectEnd(t, s.node)
	sendAndExpect(t, s.node, s.client, "late reply\n")
	s.node.Close()
	expectEnd(t, s.client)
	s.awaitEnd(t)
}

func TestAfterAHalfCloseOfTheNodeTheClientMayStillSend(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.node, s.client, "a refusal\n")
	if err := s.node.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expectEnd(t, s.client)
	sendAndExpect(t, s.client, s.node, "what the client was still sending\n")
	s.client.Close()
	expectEnd(t, s.node)
	s.awaitEnd(t)
}

// The kernel reports bytes and the end after them in one event. A relay that reads the bytes
// and waits for the next event would wait for ever.
func TestTheEndOfAStreamThatArrivesTogetherWithBytesIsNoticed(t *testing.T) {
	t.Parallel()
	for range 300 {
		s := startRelay(t)
		if _, err := s.client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := s.client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s.node); err != nil || string(got) != "x" {
			t.Fatalf("got %q, %v", got, err)
		}
		s.node.Close()
		expectEnd(t, s.client)
		s.awaitEnd(t)
	}
}

func TestAResetOfTheClientReachesTheNodeAsAReset(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "request\n")
	if err := s.client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	s.client.Close()
	expectReset(t, s.node)
	s.awaitEnd(t)
}

func TestAResetOfTheNodeReachesTheClientAsAReset(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "request\n")
	if err := s.node.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	s.node.Close()
	expectReset(t, s.client)
	s.awaitEnd(t)
}

func TestAClientThatClosesBeforeItHasAllRepliesResetsTheNode(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "request\n")
	s.client.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { _, _ = s.node.Write(randomBytes(8 << 20)) })
	s.awaitEnd(t)
	if _, err := s.node.Write([]byte("x")); err == nil {
		t.Error("the node can still write")
	}
}

func TestLargeBurstsPassUnchangedInBothDirectionsAtOnce(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	exchangeRandomBytes(t, s, 24<<20)
}

// exchangeRandomBytes sends size bytes in both directions at once and checks that they arrive unchanged.
func exchangeRandomBytes(t testing.TB, s *relayTest, size int) {
	t.Helper()
	var work sync.WaitGroup
	defer work.Wait()
	for _, way := range []struct{ from, to *net.TCPConn }{{s.client, s.node}, {s.node, s.client}} {
		bytes := randomBytes(size)
		work.Go(func() {
			if _, err := way.from.Write(bytes); err != nil {
				t.Error(err)
			}
			if err := way.from.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		work.Go(func() {
			sum := sha256.New()
			if _, err := io.Copy(sum, way.to); err != nil {
				t.Error(err)
			}
			if want := sha256.Sum256(bytes); string(sum.Sum(nil)) != string(want[:]) {
				t.Error("the bytes changed")
			}
		})
	}
}

func TestBurstsOfEverySizePassUnchanged(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	all := randomBytes(512 << 10)
	for size := 1; size <= len(all); size = size*3 - 1 + size%2 {
		var work sync.WaitGroup
		work.Go(func() {
			if _, err := s.client.Write(all[:size]); err != nil {
				t.Error(err)
			}
		})
		got := make([]byte, size)
		_, err := io.ReadFull(s.node, got)
		work.Wait()
		if err != nil || !bytes.Equal(got, all[:size]) {
			t.Fatalf("%d bytes did not pass: %v", size, err)
		}
	}
}

func TestCancelEndsARelayAndResetsTheNode(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "request\n")
	s.relay.cancel()
	s.awaitEnd(t)
	expectReset(t, s.node)
	expectEnd(t, s.client)
}

func TestCancelBeforeRunEndsTheRelay(t *testing.T) {
	t.Parallel()
	s := newRelay(t)
	s.relay.cancel()
	s.run()
	s.awaitEnd(t)
}

func TestAClientThatDoesNotReadIsResetAfterAMinute(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { _, _ = s.node.Write(randomBytes(32 << 20)) })
	s.relay.expire(time.Now()) // too early: nothing happens
	s.expireUntilEnded(t, 61*time.Second)
	expectReset(t, s.client)
}

func TestAClientThatWaitsForALongTaskIsNotDisconnected(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.client, s.node, "sleep an hour\n")
	s.relay.expire(time.Now().Add(time.Hour))
	sendAndExpect(t, s.node, s.client, "done\n")
}

func TestAClientThatDoesNotCloseIsDisconnectedAfterTheNodeCloses(t *testing.T) {
	t.Parallel()
	s := startRelay(t)
	sendAndExpect(t, s.node, s.client, "goodbye\n")
	s.node.Close()
	expectEnd(t, s.client)
	s.expireUntilEnded(t, 6*time.Second)
}
