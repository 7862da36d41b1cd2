package main

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
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// maxStreamConnections bounds --connections.
	maxStreamConnections = 256
	// complaints is how many faults are told one by one.
	complaints = 10
	// reconnectTime is how long a stream tries to come back after its connections
	// were lost: long enough for a node to be restarted.
	reconnectTime = 30 * time.Second
)

// A stream sends the tasks of a file and prints the replies as they come. Its memory
// does not depend on the length of the file.
type stream struct {
	out    *outside
	to     *target
	source *source
	size   int64 // of the file; 0 when it is not known
	bar    *progress
	stdout *replyWriter
	line   []byte // the reply that is being written

	done, failed, refused, unanswered atomic.Int64
	told                              atomic.Int64
}

// streamFile sends the tasks of the file at f.file, or of stdin.
func streamFile(ctx context.Context, out *outside, to *target, f *runFlags) error {
	if f.connections < 1 || f.connections > maxStreamConnections {
		return misuse(fmt.Sprintf("1 to %d are allowed", maxStreamConnections), "--connections is %d", f.connections)
	}
	s := &stream{out: out, to: to, source: &source{name: f.file, timeout: f.timeout}}
	s.source.refused = s.refuse
	file, err := s.open(f.file)
	if err != nil {
		return err
	}
	// A stream is patient with a node that is restarted, but not with one that was never
	// there.
	probe, err := to.client(1, -1)
	if err != nil {
		return err
	}
	err = probe.Ping(ctx)
	probe.Close()
	if err != nil {
		return to.unserved(err)
	}
	c, err := to.client(f.connections, reconnectTime)
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
		return nil, misuse("-f names a file with one task a line; - is stdin", "%w", err)
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		s.size = info.Size()
	}
	return file, nil
}

// run works until the file has ended and all is answered.
func (s *stream) run(ctx context.Context, c *client.Client, file io.Reader) error {
	stdout, isFile := s.out.Stdout.(*os.File)
	s.bar = newProgress(s.out, isFile && term.IsTerminal(int(stdout.Fd())))
	s.stdout = newReplyWriter(s.out.Stdout)
	start := time.Now()
	s.bar.watch(func() string { return s.progress(time.Since(start)) })
	err := s.exchange(ctx, c, file)
	err = errors.Join(err, s.stdout.close())
	s.bar.stop()
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
		return s.to.unserved(err)
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
	if n > complaints {
		return
	}
	where := fmt.Sprintf("%s:%d", s.source.name, line)
	if id != nil {
		where += ": id " + cut(string(id), 40)
	}
	s.bar.talk("posta: error: %s: %s", where, cut(why, 300))
	if n == complaints {
		s.bar.talk("posta: hint: these were the first %d, the others are only counted", complaints)
	}
}

// progress is the line that a terminal shows meanwhile.
func (s *stream) progress(took time.Duration) string {
	replies := s.done.Load() + s.failed.Load()
	text := fmt.Sprintf("%s replies, %s/s", thousands(replies), thousands(int64(perSecond(replies, took))))
	if bad := s.failed.Load() + s.refused.Load() + s.unanswered.Load(); bad > 0 {
		text += fmt.Sprintf(", %s bad", thousands(bad))
	}
	if s.size == 0 {
		return text
	}
	return drawBar(float64(s.source.bytes.Load())/float64(s.size)) + " " + text
}

// summary tells how it went, and decides on the exit code.
func (s *stream) summary(took time.Duration) error {
	done, failed := s.done.Load(), s.failed.Load()
	parts := []string{thousands(done) + " done"}
	for _, part := range []struct {
		n    int64
		what string
	}{{failed, "failed"}, {s.refused.Load(), "refused"}, {s.unanswered.Load(), "not answered"}} {
		if part.n > 0 {
			parts = append(parts, thousands(part.n)+" "+part.what)
		}
	}
	s.out.talk("posta: %s tasks in %.2f s (%s/s): %s", thousands(s.source.lines.Load()), took.Seconds(),
		thousands(int64(perSecond(done+failed, took))), strings.Join(parts, ", "))
	if len(parts) > 1 {
		return told(exitFailed)
	}
	return nil
}
