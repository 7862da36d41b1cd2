package client_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/wire"
)

// TestMain runs many tests in parallel, since most of them wait most of the time.
func TestMain(m *testing.M) {
	testenv.Overlap(8)
	goleak.VerifyTestMain(m)
}

// fake is a server that calls a script with each connection.
type fake struct {
	script func(p *peer)
	dials  atomic.Int32
	refuse atomic.Int32 // the number of dials that fail first
	peers  sync.WaitGroup
	dial   func(ctx context.Context, serve func(net.Conn)) (net.Conn, error)
}

// overTCP returns a fake with real sockets on loopback.
func overTCP(t testing.TB, script func(p *peer)) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{script: script}
	f.dial = func(ctx context.Context, serve func(net.Conn)) (net.Conn, error) {
		var dialer net.Dialer
		nc, err := dialer.DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			return nil, err
		}
		accepted, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		serve(accepted)
		return nc, nil
	}
	t.Cleanup(func() {
		_ = listener.Close()
		f.peers.Wait()
	})
	return f
}

// inMemory returns a fake without a network, for tests in a bubble.
func inMemory(script func(p *peer)) *fake {
	return &fake{script: script, dial: func(_ context.Context, serve func(net.Conn)) (net.Conn, error) {
		near, far := net.Pipe()
		serve(far)
		return near, nil
	}}
}

// Dial is the Dial of a client's Config.
func (f *fake) Dial(ctx context.Context) (net.Conn, error) {
	number := int(f.dials.Add(1)) - 1
	if f.refuse.Add(-1) >= 0 {
		return nil, fmt.Errorf("refused by the test")
	}
	return f.dial(ctx, func(nc net.Conn) {
		f.peers.Go(func() {
			defer nc.Close()
			f.script(&peer{Conn: nc, number: number, reader: bufio.NewReaderSize(nc, 64<<10)})
		})
	})
}

// client returns a client of the fake. It is closed at the end of the test.
func (f *fake) client(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	cfg.Dial = f.Dial
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// peer is the server's end of a connection. number counts the connections from 0.
type peer struct {
	net.Conn
	number  int
	reader  *bufio.Reader
	request wire.Request
}

// next reads a request. It returns false at the end of the connection.
func (p *peer) next() (received, bool) {
	line, err := p.reader.ReadSlice('\n')
	if err != nil {
		return received{}, false
	}
	r := &p.request
	if refusal := r.Parse(line[:len(line)-1], wire.OpEnqueue); refusal != nil {
		panic("the client sent " + string(line) + refusal.Error())
	}
	if refusal := r.Validate(); refusal != nil {
		panic("the client sent " + string(line) + refusal.Error())
	}
	return received{string(r.ID), r.Op, string(r.Action), string(r.Payload), string(r.Token), r.Options, string(line)}, true
}

// received is a request that the server received.
type received struct {
	id              string
	op              wire.Op
	action, payload string
	token           string
	options         wire.Options // without its raw members
	line            string
}

// greet answers the handshake's ping.
func (p *peer) greet() bool {
	a, ok := p.next()
	if !ok {
		return false
	}
	if a.op != wire.OpPing {
		panic("the first line is not a ping but " + a.op.String())
	}
	p.say(`{"id":%s,"status":"done","result":{"ok":true,"data":"pong"}}`, a.id)
	return true
}

// task reads a request that must be a task.
func (p *peer) task() (received, bool) {
	a, ok := p.next()
	if ok && a.op != wire.OpRun {
		panic("not a task: " + a.op.String())
	}
	return a, ok
}

// durable reads a request that must have this op.
func (p *peer) durable(op wire.Op) (received, bool) {
	a, ok := p.next()
	if ok && a.op != op {
		panic("not " + op.String() + ": " + a.op.String())
	}
	return a, ok
}

// say sends a line.
func (p *peer) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p, format+"\n", args...)
}

// done replies to a task with its payload.
func (p *peer) done(a received) {
	p.say(`{"id":%s,"status":"done","result":{"ok":true,"data":%s}}`, a.id, orNull(a.payload))
}

// reset ends the connection with a reset, as a crash does.
func (p *peer) reset() {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.Close()
}

// echo replies to every request until the connection ends.
func (p *peer) echo() {
	for {
		a, ok := p.next()
		if !ok {
			return
		}
		switch {
		case a.op == wire.OpPing:
			p.say(`{"id":%s,"status":"done","result":{"ok":true,"data":"pong"}}`, a.id)
		case a.op == wire.OpInfo:
			p.say(`{"id":%s,"status":"done","result":{"ok":true,"node":"n1","version":"1","protocol":1,"actions":["echo"],"slots":4,"limits":{},"draining":false}}`, a.id)
		case a.action == "upper":
			p.done(received{id: a.id, payload: strings.ToUpper(a.payload)})
		case a.action == "echo":
			p.done(a)
		default:
			p.say(`{"id":%s,"status":"done","result":{"ok":false,"error":"unknown action %s"}}`, a.id, a.action)
		}
	}
}

func orNull(payload string) string {
	if payload == "" {
		return "null"
	}
	return payload
}
