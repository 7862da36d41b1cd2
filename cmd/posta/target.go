package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// dialTimeout bounds how long a connection may take to stand; it includes the
// answer to the token.
const dialTimeout = 5 * time.Second

// target is the running system that a verb talks to.
type target struct {
	out   *outside
	addr  string
	token string
}

// addTarget gives a verb the flag --to and its environment twin. The token has no
// flag: a command line can be read by every user of the machine.
func addTarget(out *outside, cmd *cobra.Command) *target {
	t := &target{out: out}
	cmd.Flags().StringVar(&t.addr, "to", "127.0.0.1:9000", "the `address` of the balancer or node")
	withTwins(out, cmd, "to")
	twins := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := twins(cmd, args); err != nil {
			return err
		}
		t.token = out.getenv("POSTA_TOKEN")
		return t.check()
	}
	return t
}

// check refuses an address that can never be reached.
func (t *target) check() error {
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil || port == "" {
		return misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "--to is %q, which is no address", t.addr)
	}
	if host == "" {
		t.addr = net.JoinHostPort("127.0.0.1", port)
	}
	return nil
}

// client makes a client with so many connections, whose requests wait so long for one.
func (t *target) client(connections int, wait time.Duration) (*client.Client, error) {
	return client.New(client.Config{
		Dial:        func(ctx context.Context) (net.Conn, error) { return t.connect(ctx) },
		Token:       t.token,
		Connections: connections,
		ConnectWait: wait,
	})
}

// lines is one connection that speaks the line protocol. The demo and the
// bench use it directly, since they want the bytes as they are.
type lines struct {
	*net.TCPConn
	replies *bufio.Reader
}

// dial connects, within dialTimeout, and presents the token when there is one. The
// caller closes the connection.
func (t *target) dial(ctx context.Context) (*lines, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &lines{conn, bufio.NewReaderSize(conn, 64<<10)}
	if t.token == "" {
		return l, nil
	}
	if err := t.present(ctx, l); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// connect makes the bare connection, until ctx ends.
func (t *target) connect(ctx context.Context) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, t.unreachable(ctx, err)
	}
	return conn.(*net.TCPConn), nil
}

// present sends the token; nothing else may be sent before its answer.
func (t *target) present(ctx context.Context, l *lines) error {
	line := append([]byte(`{"op":"auth","token":`), wire.AppendString(nil, t.token)...)
	r, err := t.ask(ctx, l, append(line, "}\n"...))
	if err != nil {
		return err
	}
	if r.Status == "error" {
		return fail(exitFailed, "POSTA_TOKEN holds the token; the node knows it from its --token-file", "%s", r.fault())
	}
	return nil
}

// ask sends one line and waits for one reply, until ctx ends.
func (t *target) ask(ctx context.Context, l *lines, line []byte) (*reply, error) {
	defer context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Now()) })()
	deadline, _ := ctx.Deadline()
	if err := l.SetDeadline(deadline); err != nil {
		return nil, t.lost(err)
	}
	if _, err := l.Write(line); err != nil {
		return nil, t.lost(err)
	}
	text, err := l.read()
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, t.lost(err)
	}
	r, err := readReply(text)
	if err != nil {
		return nil, t.strange(text)
	}
	return r, l.SetDeadline(time.Time{})
}

// read gives the next reply line with its line ending. It is valid until the next
// read. A line longer than the buffer is copied.
func (l *lines) read() ([]byte, error) {
	line, err := l.replies.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := append([]byte(nil), line...)
	rest, err := l.replies.ReadBytes('\n')
	return append(long, rest...), err
}

// unreachable explains why there is no connection.
func (t *target) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fail(exitUnreachable, "is it running? `posta up` starts a balancer and three nodes; --to or POSTA_TO says where",
		"cannot reach %s: %w", t.addr, innermost(err))
}

// lost explains a connection that ended before its replies came.
func (t *target) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return fail(exitUnreachable, "is a node running behind the balancer?", "%s closed the connection without an answer", t.addr)
	}
	return fail(exitUnreachable, "is the node or the balancer being restarted?", "the connection to %s was lost: %w", t.addr, innermost(err))
}

// unserved explains an error of the client: what is no refusal never reached a node.
func (t *target) unserved(err error) error {
	var f *failure
	var refusal *task.Error
	if err == nil || errors.As(err, &f) || errors.As(err, &refusal) || errors.Is(err, context.Canceled) {
		return err
	}
	return fail(exitUnreachable, "is a node running behind the balancer?", "%s: %w", t.addr, err)
}

// strange explains an answer that is none of the protocol.
func (t *target) strange(line []byte) error {
	return fail(exitUnreachable, "is that a posta? --to or POSTA_TO says where one is", "%s answered %.80q", t.addr, line)
}

// innermost takes off the addresses that package net puts around an error, since
// the message names the address already.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
