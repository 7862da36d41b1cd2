package testenv

import (
	"bufio"
	"io"
	"net"
	"testing"
)

// Serve listens on a loopback port until the test ends, calls serve in a new goroutine for each connection, and
// returns its address.
func Serve(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// AnswerLines returns a function for Serve that answers each line with reply, and closes the connection after the
// last one.
func AnswerLines(reply func(line string) string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if _, err := io.WriteString(conn, reply(lines.Text())); err != nil {
				return
			}
		}
	}
}
