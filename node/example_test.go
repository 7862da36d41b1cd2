package node_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/node"
)

// A program with its own action is a node like any other.
func Example() {
	greet := actions.New("greet", func(_ context.Context, call *actions.Call) (any, error) {
		return "hello, " + string(call.Payload), nil
	})
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Actions: append(actions.Builtin(), greet)})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	defer running.Wait()
	defer stop()

	conn, _ := net.Dial("tcp", n.Addr().String())
	fmt.Fprintln(conn, `{"id":1,"action":"greet","payload":7}`)
	conn.(*net.TCPConn).CloseWrite()
	reply, _ := io.ReadAll(conn)
	fmt.Print(string(reply))
	// Output: {"id":1,"status":"done","result":{"ok":true,"data":"hello, 7"}}
}
