package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	verbBare = "bare"

	// bareBuffer is the size of the read buffer of the bare server, the same as Posta's.
	bareBuffer = 64 << 10
	// idleBuffer is the size of each of the two buffers of the server with which idle connections are compared:
	// what an ordinary Go server allocates for a connection.
	idleBuffer = 4 << 10
)

// bareServer is the practical limit: it makes the system calls of a line server, finds the lines, and does
// nothing else. It answers every line with the same bytes, and all lines of one read in one write.
type bareServer struct {
	reply []byte
}

// runBare prints its address and serves until its standard input ends. So it never outlives the process that
// started it.
func runBare(ctx context.Context, args []string, s streams) error {
	flags := flag.NewFlagSet(verbBare, flag.ContinueOnError)
	flags.SetOutput(s.err)
	reply := flags.String("reply", string(load.SampleReply()), "the line that answers every line")
	buffered := flags.Bool("buffered", false, "two bufio buffers of 4 KiB for each connection instead of one read buffer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, s.in)
		listener.Close()
	}()
	server := &bareServer{reply: []byte(*reply)}
	serve := server.serve
	if *buffered {
		serve = server.serveBuffered
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil
		}
		go serve(conn)
	}
}

// serve answers one connection until it breaks or ends.
func (b *bareServer) serve(conn net.Conn) {
	defer conn.Close()
	buf, out := make([]byte, bareBuffer), make([]byte, 0, bareBuffer)
	held := 0 // bytes of an incomplete line at the beginning of buf
	for first := true; held < len(buf); first = false {
		n, err := conn.Read(buf[held:])
		if err != nil {
			return
		}
		if first && bytes.HasPrefix(buf[:n], []byte("GET ")) {
			answerHealthCheck(conn)
			return
		}
		var used int
		out, used = b.answer(out[:0], buf[:held+n])
		held = copy(buf, buf[used:held+n])
		if len(out) == 0 {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// answer appends a reply for every complete line of in, and returns the number of bytes of these lines.
func (b *bareServer) answer(out, in []byte) ([]byte, int) {
	used := 0
	for {
		end := bytes.IndexByte(in[used:], '\n')
		if end < 0 {
			return out, used
		}
		used += end + 1
		out = append(out, b.reply...)
	}
}

// serveBuffered serves like an ordinary line server, for the usual cost of an idle connection.
func (b *bareServer) serveBuffered(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, idleBuffer)
	w := bufio.NewWriterSize(conn, idleBuffer)
	for {
		if _, err := r.ReadSlice('\n'); err != nil {
			return
		}
		if _, err := w.Write(b.reply); err != nil {
			return
		}
		if r.Buffered() > 0 {
			continue
		}
		if err := w.Flush(); err != nil {
			return
		}
	}
}

// answerHealthCheck makes the bare server look like a healthy node to balancers.
func answerHealthCheck(conn net.Conn) {
	_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
