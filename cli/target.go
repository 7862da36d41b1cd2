package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// dialTimeout is the timeout for opening a connection, including the answer to the token.
const dialTimeout = 5 * time.Second

// target is the running system that a verb uses.
type target struct {
	out   *terminal.Outside
	Addr  string // HOST:PORT; valid once the flags were parsed
	token string

	// OwnFiles reports whether the flags for a certificate and a key may be used without TLS, for files that the
	// verb checks. It may be nil.
	OwnFiles func() bool

	secure *clientTLS
	tls    *tls.Config // nil: plain text
}

// addTarget adds the flag --to and its environment variable to a verb. The token has no flag, since every user of
// the machine can read a command line. others are the flags of the verb that also get an environment variable.
func addTarget(out *terminal.Outside, cmd *cobra.Command, others ...string) *target {
	t := &target{out: out}
	cmd.Flags().StringVar(&t.Addr, "to", "127.0.0.1:9000", "the `address` of the balancer or node")
	var names []string
	t.secure, names = addClientTLS(cmd.Flags(), "", "the balancer or node")
	withVariables(out, cmd, append(append(names, "to"), others...)...)
	variables := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := variables(cmd, args); err != nil {
			return err
		}
		t.token = out.Getenv("POSTA_TOKEN")
		if err := t.check(); err != nil {
			return err
		}
		return t.secured()
	}
	return t
}

// check refuses an address to which no connection is possible.
func (t *target) check() error {
	if err := checkAddresses("to", t.Addr); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(t.Addr)
	if err != nil || port == "" {
		return misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "--to is %q, which is not an address", t.Addr)
	}
	if host == "" {
		t.Addr = net.JoinHostPort("127.0.0.1", port)
	}
	return nil
}

// Client returns a client with a number of connections. wait is how long its requests wait for a connection.
func (t *target) Client(connections int, wait time.Duration) (*client.Client, error) {
	return client.New(client.Config{
		Dial:        func(ctx context.Context) (net.Conn, error) { return t.connect(ctx) },
		Token:       t.token,
		Connections: connections,
		ConnectWait: wait,
	})
}

// targetPatience is how long requests wait for a lost connection. A node can be restarted meanwhile.
const targetPatience = 30 * time.Second

// Patient returns a client that survives the restart of a node. It fails at once if no node answers now.
func (t *target) Patient(ctx context.Context, connections int) (*client.Client, error) {
	probe, err := t.Client(1, -1)
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	if err := probe.Ping(ctx); err != nil {
		return nil, t.Unserved(err)
	}
	return t.Client(connections, targetPatience)
}

// lineConn is a connection for the line protocol. The demo and the benchmark use it directly, since they need the
// bytes as they are.
type lineConn struct {
	transport
	replies *bufio.Reader
}

// Dial connects within dialTimeout, and sends the token if there is one. The caller closes the connection.
func (t *target) Dial(ctx context.Context) (*lineConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &lineConn{conn, bufio.NewReaderSize(conn, 64<<10)}
	if t.token == "" {
		return l, nil
	}
	if err := t.present(ctx, l); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// present sends the token and waits for the answer.
func (t *target) present(ctx context.Context, l *lineConn) error {
	line := append([]byte(`{"op":"auth","token":`), task.AppendString(nil, t.token)...)
	r, err := t.ask(ctx, l, append(line, "}\n"...))
	if err != nil {
		return err
	}
	if r.Status == "error" {
		return r.Refusal()
	}
	return nil
}

// ask sends a line and waits for its reply until ctx ends.
func (t *target) ask(ctx context.Context, l *lineConn, line []byte) (*lineReply, error) {
	defer context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Now()) })()
	deadline, _ := ctx.Deadline()
	if err := l.SetDeadline(deadline); err != nil {
		return nil, t.Lost(err)
	}
	if _, err := l.Write(line); err != nil {
		return nil, t.Lost(err)
	}
	text, err := l.ReadLine()
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, t.Lost(err)
	}
	r, err := readReply(text)
	if err != nil {
		return nil, t.Strange(text)
	}
	return r, l.SetDeadline(time.Time{})
}

// ReadLine returns the next reply line with its line ending. It is valid until the next
// call. A line longer than the buffer is copied.
func (l *lineConn) ReadLine() ([]byte, error) {
	line, err := l.replies.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := append([]byte(nil), line...)
	rest, err := l.replies.ReadBytes('\n')
	return append(long, rest...), err
}

// unreachable explains why a connection cannot be opened.
func (t *target) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fail(exitUnreachable, "is it running? `posta up` starts a balancer and three nodes; --to or POSTA_TO says where",
		"cannot reach %s: %w", t.Addr, innermost(err))
}

// Lost explains why a connection ended before its replies arrived.
func (t *target) Lost(err error) error {
	if errors.Is(err, io.EOF) {
		return fail(exitUnreachable, "is a node running behind the balancer?", "%s closed the connection without an answer", t.Addr)
	}
	return fail(exitUnreachable, "is the node or the balancer being restarted?", "the connection to %s was lost: %w", t.Addr, innermost(err))
}

// Unserved explains an error of the client. If it is not a refusal, no node has received the request.
func (t *target) Unserved(err error) error {
	var f *failure
	var refusal *task.Error
	if err == nil || errors.As(err, &f) || errors.As(err, &refusal) || errors.Is(err, context.Canceled) {
		return err
	}
	return fail(exitUnreachable, "is a node running behind the balancer?", "%s: %w", t.Addr, err)
}

// Strange explains an answer that is not of the protocol.
func (t *target) Strange(line []byte) error {
	return fail(exitUnreachable, "is that a posta? --to or POSTA_TO says where one is", "%s answered %.80q", t.Addr, line)
}

// innermost removes the addresses that package net adds to an error, since the message contains the address
// already.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
