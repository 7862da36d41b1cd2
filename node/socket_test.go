package node_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// page is a WebSocket client.
type page struct {
	tb testing.TB
	ws *websocket.Conn
}

// browse opens a WebSocket. headers are name, value, name, value.
func browse(tb testing.TB, addr string, headers ...string) *page {
	tb.Helper()
	ws, _, err := dialSocket(tb, addr, headers...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	return &page{tb, ws}
}

func dialSocket(tb testing.TB, addr string, headers ...string) (*websocket.Conn, *http.Response, error) {
	tb.Helper()
	options := &websocket.DialOptions{HTTPHeader: http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		options.HTTPHeader.Set(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return websocket.Dial(ctx, "ws://"+addr+"/v1/socket", options)
}

func (p *page) send(text string) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		p.tb.Fatal(err)
	}
}

// next reads a message.
func (p *page) next() (string, error) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, text, err := p.ws.Read(ctx)
	return string(text), err
}

// expect reads a message and compares it with a pattern.
func (p *page) expect(pattern string) {
	p.tb.Helper()
	got, err := p.next()
	if err != nil || !looksLike(got, pattern) {
		p.tb.Fatalf("got %s (%v), want %s", short(got), err, pattern)
	}
}

// expectEnd expects the server to close with a status.
func (p *page) expectEnd(status websocket.StatusCode) {
	p.tb.Helper()
	if got, err := p.next(); websocket.CloseStatus(err) != status {
		p.tb.Fatalf("got %s, %v, want the end with %v", short(got), err, status)
	}
}

func TestAWebSocketCarriesTheLineProtocol(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}})
	p := browse(t, server.addr)
	p.send(`{"id":1,"action":"upper","payload":"hola"}`)
	p.expect(`{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
	p.send("{\n  \"id\": 2,\r\n  \"action\": \"echo\"\n}\n") // written over several lines, as people do
	p.expect(`{"id":2,"status":"done","result":{"ok":true,"data":null}}`)
	p.send("{\"id\":3,\"action\":\"echo\",\"payload\":\"a\nb\"}")
	p.expect(`{"id":null,"status":"error","code":"invalid_json",…}`)
	p.send(`{"id":4}{"id":5}`)
	p.expect(`{"id":null,"status":"error","code":"invalid_json",…}`)
	p.send(`{"id":6,"op":"enqueue","action":"fib","payload":10,"wait":true}`)
	p.expect(`{"id":6,"status":"queued","task":"…"}`)
	p.expect(`{"id":6,"status":"done","task":"…","result":{"ok":true,"fib":55},"attempt":1}`)
	large := `"` + strings.Repeat("ñ", 200_000) + `"`
	p.send(`{"id":7,"action":"echo","payload":` + large + `}`)
	p.expect(`{"id":7,"status":"done","result":{"ok":true,"data":` + large + `}}`)
	for range 300 { // more than the window, replies unread
		p.send(`{"id":8,"action":"echo"}`)
	}
	for range 300 {
		p.expect(`{"id":8,"status":"done","result":{"ok":true,"data":null}}`)
	}
	if err := p.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

func TestAWebSocketHasTheLimitsOfALine(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Limits: task.Limits{Line: 100_000}})
	p := browse(t, server.addr)
	p.send(`{"id":1,"action":"echo","payload":"` + strings.Repeat("x", 200_000) + `"}`)
	p.expect(`{"id":null,"status":"error","code":"line_too_long",…}`)
	p.expectEnd(websocket.StatusMessageTooBig)
	p = browse(t, server.addr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.ws.Write(ctx, websocket.MessageBinary, []byte(`{"id":1,"action":"echo"}`)); err != nil {
		t.Fatal(err)
	}
	p.expectEnd(websocket.StatusUnsupportedData)
	for _, text := range []string{"\xff", `{"id":1,"action":"echo","payload":"` + "\xc3(\"}", strings.Repeat(" ", 50_001) + "\xe2\x82", `"` + strings.Repeat("ñ", 20_000) + "\xc3\""} {
		p = browse(t, server.addr)
		p.send(text)
		p.expectEnd(websocket.StatusInvalidFramePayloadData)
	}
	server = openStage(t, node.Config{Limits: task.Limits{Idle: 5 * time.Second}})
	p = browse(t, server.addr)
	p.expect(`{"id":null,"status":"goaway","code":"idle","retry_after":0}`)
	p.expectEnd(websocket.StatusNormalClosure)
}

// After a refusal, the node reads no more from a WebSocket than from a line connection.
func TestAWebSocketReadsLittleAfterARefusal(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Limits: task.Limits{Line: 100_000}})
	p := browse(t, server.addr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	message, err := p.ws.Writer(ctx, websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	block, sent := []byte(strings.Repeat("x", 256<<10)), 0
	for ; err == nil && sent < 128<<20; sent += len(block) {
		_, err = message.Write(block)
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("%d MiB were sent (%v)", sent>>20, ctx.Err())
	}
	v := visit(t, server.addr)
	v.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(v.in)
	if err != nil {
		t.Fatal(err)
	}
	var took int
	line := regexp.MustCompile(`posta_received_bytes_total\{door="http"\} (\S+)`).FindSubmatch(text)
	if line == nil {
		t.Fatalf("the scrape has no bytes of HTTP: %s", text)
	}
	if value, err := strconv.ParseFloat(string(line[1]), 64); err != nil {
		t.Fatal(err)
	} else if took = int(value); took > task.LingerBytes+1<<20 {
		t.Errorf("the node read %d bytes after the refusal, want at most %d", took, task.LingerBytes)
	}
}

// Proxies close connections that are silent for a minute.
func TestASilentWebSocketIsPinged(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Limits: task.Limits{Idle: 10 * time.Second}})
	pinged := make(chan struct{}, 100)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+server.addr+"/v1/socket", &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { pinged <- struct{}{}; return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	reading := ws.CloseRead(ctx)
	select {
	case <-pinged:
	case <-reading.Done():
		t.Error("the WebSocket was closed without a ping")
	}
}

func TestAWebSocketNeedsAValidTokenAndOrigin(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Tokens: stageTokens(t)})
	for name, headers := range map[string][]string{
		"a wrong token":     {"Authorization", "Bearer wrong-horse-battery"},
		"another origin":    {"Authorization", "Bearer correct-horse-battery", "Origin", "https://evil.example"},
		"another site":      {"Authorization", "Bearer correct-horse-battery", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "websocket"},
		"an origin in vain": {"Origin", "null"},
	} {
		if ws, response, err := dialSocket(t, server.addr, headers...); err == nil {
			t.Errorf("%s: the WebSocket was accepted", name)
			_ = ws.CloseNow()
		} else if response == nil || response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v, and no problem document", name, err)
		}
	}
	for _, headers := range []string{"", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"} {
		v := visit(t, server.addr)
		v.send("GET /v1/socket HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse-battery\r\n" + headers + "\r\n")
		if status, err := v.in.ReadString('\n'); err != nil || !strings.HasPrefix(status, "HTTP/1.1 426 ") {
			t.Errorf("a request for an unknown kind of WebSocket got %q, %v", status, err)
		}
	}
	p := browse(t, server.addr, "Authorization", "Bearer correct-horse-battery", "Origin", "http://"+server.addr)
	p.send(`{"id":1,"action":"echo"}`)
	p.expect(`{"id":1,"status":"done",…}`)
	p = browse(t, server.addr) // a page cannot send the header, so it sends the token in a line
	p.send(`{"id":1,"op":"auth","token":"correct-horse-battery"}`)
	p.send(`{"id":2,"action":"echo"}`)
	p.expect(`{"id":1,"status":"done","result":{"ok":true,"name":"web",…}}`)
	p.expect(`{"id":2,"status":"done",…}`)
	p = browse(t, server.addr)
	p.send(`{"id":1,"action":"echo"}`)
	p.expect(`{"id":1,"status":"error","code":"unauthenticated",…}`)
	p.expectEnd(websocket.StatusPolicyViolation)
}

func TestADrainSendsGoawayToWebSockets(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	p := browse(t, server.addr)
	p.send(`{"id":1,"op":"enqueue","action":"echo","delay":3600,"wait":true}`)
	p.expect(`{"id":1,"status":"scheduled",…}`)
	server.stop()
	for range 2 { // in either order
		p.expect(`{"id":…,"code":"draining",…}`)
	}
	p.expectEnd(websocket.StatusGoingAway)
}

func TestAClosedWebSocketCancelsOnlyItsRuns(t *testing.T) {
	t.Parallel()
	began, ended := make(chan bool, 2), make(chan error, 2)
	held := actions.Action{Name: "held", Slow: true, Run: func(ctx context.Context, _ *actions.Call) (any, error) {
		began <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}
	server := openStage(t, node.Config{Actions: []actions.Action{held}, Limits: task.Limits{DrainTimeout: 100 * time.Millisecond}})
	for name, leave := range map[string]func(p *page) error{
		"closes":     func(p *page) error { return p.ws.Close(websocket.StatusNormalClosure, "") },
		"is cut off": func(p *page) error { return p.ws.CloseNow() },
	} {
		p := browse(t, server.addr)
		p.send(`{"id":1,"action":"held","timeout":3600}`)
		<-began
		if err := leave(p); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a client that %s: its run ended with %v", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("a client that %s: its run continues", name)
		}
	}
}

func TestAWebSocketWhoseClientDoesNotReadIsClosed(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Limits: task.Limits{WriteTimeout: 200 * time.Millisecond}})
	p := browse(t, server.addr)
	line := `{"id":1,"action":"echo","payload":"` + strings.Repeat("x", 500_000) + `"}`
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 1_000 {
		if err := p.ws.Write(ctx, websocket.MessageText, []byte(line)); err != nil {
			if ctx.Err() != nil {
				t.Error("the WebSocket is still open")
			}
			return
		}
	}
	t.Error("the node accepted 1,000 large tasks of a client that reads no replies")
}
