package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeNode answers lines as a test wants it: for what a real node does only rarely.
type fakeNode struct {
	addr   string
	conns  atomic.Int64
	onLine func() // called before each line is answered; nil: nothing
}

// fakeConn is one connection to it, after the ping.
type fakeConn struct {
	*net.TCPConn
	lines *bufio.Scanner
	node  *fakeNode
	id    json.RawMessage // of the last line
	n     int64           // which connection it is, from 1
}

// answering starts a node that handles each connection with serve.
func answering(t *testing.T, serve func(*fakeConn)) *fakeNode {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := &fakeNode{addr: listener.Addr().String()}
	var open sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			lines := bufio.NewScanner(conn)
			lines.Buffer(nil, 4<<20)
			c := &fakeConn{TCPConn: conn.(*net.TCPConn), lines: lines, node: node, n: node.conns.Add(1)}
			open.Go(func() {
				defer conn.Close()
				serve(c)
			})
		}
	})
	return node
}

// next reads a line; pings are answered and passed over.
func (c *fakeConn) next() bool {
	for c.lines.Scan() {
		if c.node.onLine != nil {
			c.node.onLine()
		}
		var request struct {
			ID json.RawMessage `json:"id"`
			Op string          `json:"op"`
		}
		if json.Unmarshal(c.lines.Bytes(), &request) != nil {
			return false
		}
		if request.Op == "ping" {
			id := request.ID
			if id == nil {
				id = []byte("null")
			}
			c.say(`{"id":%s,"status":"done","result":{"ok":true,"data":"pong"}}`, id)
			continue
		}
		c.id = bytes.Clone(request.ID)
		return true
	}
	return false
}

func (c *fakeConn) say(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// done answers the last line.
func (c *fakeConn) done() { c.say(`{"id":%s,"status":"done","result":{"ok":true,"data":null}}`, c.id) }

// answerAll answers every line until the client has no more.
func (c *fakeConn) answerAll() {
	for c.next() {
		c.done()
	}
}

// silent reads and never answers.
func (c *fakeConn) silent() {
	for c.next() {
		continue
	}
}
