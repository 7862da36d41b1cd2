// Package stream sends a file of tasks and prints the replies as they come: pipelined over
// several connections, in the memory of what is under way, whatever the length of the file.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/cmd/posta/exit"
	"github.com/posta-tasks/posta/cmd/posta/target"
	"github.com/posta-tasks/posta/cmd/posta/terminal"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// MaxConnections bounds Config.Connections.
	MaxConnections = 256
	// Complaints is how many faults are told one by one.
	Complaints = 10
	// reconnectTime is how long a stream tries to come back after its connections
	// were lost: long enough for a node to be restarted.
	reconnectTime = 30 * time.Second
)

// A stream sends the tasks of a file and prints the replies as they come. Its memory
// does not depend on the length of the file.
type stream struct {
	out    *terminal.Outside
	to     *target.Target
	source *source
	size   int64 // of the file; 0 when it is not known
	bar    *terminal.Progress
	stdout *replyWriter
	line   []byte // the reply that is being written

	done, failed, refused, unanswered atomic.Int64
	told                              atomic.Int64
}

// Config says what is streamed, and to whom.
type Config struct {
	Out         *terminal.Outside
	To          *target.Target
	File        string        // its name; - is stdin
	Timeout     time.Duration // of tasks that have none; 0 leaves it to the node
	Connections int           // 1 to MaxConnections
}

// File sends the tasks of a file until all are answered or ctx ends.
func File(ctx context.Context, config Config) error {
	if n := config.Connections; n < 1 || n > MaxConnections {
		return exit.Misuse(fmt.Sprintf("1 to %d are allowed", MaxConnections), "--connections is %d", n)
	}
	s := &stream{out: config.Out, to: config.To, source: &source{name: config.File, timeout: config.Timeout}}
	s.source.refused = s.refuse
	file, err := s.open(config.File)
	if err != nil {
		return err
	}
	// A stream is patient with a node that is restarted, but not with one that was never
	// there.
	probe, err := s.to.Client(1, -1)
	if err != nil {
		return err
	}
	err = probe.Ping(ctx)
	probe.Close()
	if err != nil {
		return s.to.Unserved(err)
	}
	c, err := s.to.Client(config.Connections, reconnectTime)
	if err != nil {
		return err
	}
	defer c.Close()
	return s.run(ctx, c, file)
}

// open opens the file and learns its size. It is closed by the end of the process,
// since a read of stdin cannot be ended.
func (s *stream) open(path string) (io.Reader, error) {
	if path == "-" {
		s.source.name = "stdin"
		return s.out.Stdin, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, exit.Misuse("-f names a file with one task a line; - is stdin", "%w", err)
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		s.size = info.Size()
	}
	return file, nil
}

// run works until the file has ended and all is answered.
func (s *stream) run(ctx context.Context, c *client.Client, file io.Reader) error {
	stdout, isFile := s.out.Stdout.(*os.File)
	s.bar = terminal.NewProgress(s.out, isFile && term.IsTerminal(int(stdout.Fd())))
	s.stdout = newReplyWriter(s.out.Stdout)
	start := time.Now()
	s.bar.Watch(func() string { return s.progress(time.Since(start)) })
	err := s.exchange(ctx, c, file)
	err = errors.Join(err, s.stdout.close())
	s.bar.Stop()
	if err != nil {
		return err
	}
	return s.summary(time.Since(start))
}

// exchange sends each task and takes each outcome.
func (s *stream) exchange(ctx context.Context, c *client.Client, file io.Reader) error {
	for from, outcome := range client.Stream(ctx, c, s.source.tasks(ctx, file)) {
		s.source.answered(from)
		if err := s.take(from, outcome); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.source.err
}

// take counts and prints one outcome. It gives an error when there is no sense in
// going on.
func (s *stream) take(from origin, outcome client.Outcome) error {
	var failed *client.ActionError
	var refusal *task.Error
	switch err := outcome.Err; {
	case err == nil:
		s.done.Add(1)
	case errors.As(err, &failed):
		s.failed.Add(1)
		s.complain(from.line, from.id, failed.Message)
	case !errors.As(err, &refusal), refusal.Code == task.Unauthenticated:
		return s.to.Unserved(err)
	case refusal.Code == task.UnknownOutcome:
		s.unanswered.Add(1)
		s.complain(from.line, from.id, err.Error())
	default:
		s.refuse(from.line, from.id, err.Error())
	}
	if refusal != nil {
		s.line = wire.AppendError(s.line[:0], from.id, refusal)
	} else {
		s.line = wire.AppendDone(s.line[:0], from.id, outcome.Result.JSON())
	}
	return s.stdout.write(s.line)
}

// refuse tells of a task that was not run.
func (s *stream) refuse(line int, id []byte, why string) {
	s.refused.Add(1)
	s.complain(line, id, why)
}

// complain tells of one task, and after some of them no more.
func (s *stream) complain(line int, id []byte, why string) {
	n := s.told.Add(1)
	if n > Complaints {
		return
	}
	where := fmt.Sprintf("%s:%d", s.source.name, line)
	if id != nil {
		where += ": id " + terminal.Cut(string(id), 40)
	}
	s.bar.Talk("posta: error: %s: %s", where, terminal.Cut(why, 300))
	if n == Complaints {
		s.bar.Talk("posta: hint: these were the first %d, the others are only counted", Complaints)
	}
}

// progress is the line that a terminal shows meanwhile.
func (s *stream) progress(took time.Duration) string {
	replies := s.done.Load() + s.failed.Load()
	text := fmt.Sprintf("%s replies, %s/s", terminal.Thousands(replies), terminal.Thousands(int64(terminal.PerSecond(replies, took))))
	if bad := s.failed.Load() + s.refused.Load() + s.unanswered.Load(); bad > 0 {
		text += fmt.Sprintf(", %s bad", terminal.Thousands(bad))
	}
	if s.size == 0 {
		return text
	}
	return terminal.Bar(float64(s.source.bytes.Load())/float64(s.size)) + " " + text
}

// summary tells how it went, and decides on the exit code.
func (s *stream) summary(took time.Duration) error {
	done, failed := s.done.Load(), s.failed.Load()
	parts := []string{terminal.Thousands(done) + " done"}
	for _, part := range []struct {
		n    int64
		what string
	}{{failed, "failed"}, {s.refused.Load(), "refused"}, {s.unanswered.Load(), "not answered"}} {
		if part.n > 0 {
			parts = append(parts, terminal.Thousands(part.n)+" "+part.what)
		}
	}
	s.out.Talk("posta: %s tasks in %.2f s (%s/s): %s", terminal.Thousands(s.source.lines.Load()), took.Seconds(),
		terminal.Thousands(int64(terminal.PerSecond(done+failed, took))), strings.Join(parts, ", "))
	if len(parts) > 1 {
		return exit.Told(exit.Failed)
	}
	return nil
}
