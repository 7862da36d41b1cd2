package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// maxStreamConnections is the largest number of connections.
	maxStreamConnections = 256
	// maxComplaints is how many failures are reported one by one.
	maxComplaints = 10
)

// stream sends the tasks of a file and prints the replies as they arrive. Its memory does not depend on the size of
// the file.
type stream struct {
	out    *terminal.Outside
	to     *target
	source *source
	size   int64 // size of the file; 0 if it is unknown
	bar    *terminal.Progress
	stdout *replyWriter
	silent bool   // replies are not printed
	line   []byte // the buffer for the current reply

	done, failed, refused, unanswered atomic.Int64
	told                              atomic.Int64
}

// streamConfig configures a stream.
type streamConfig struct {
	Out         *terminal.Outside
	To          *target
	File        string // name of the file; - means stdin
	Connections int    // 1 to maxStreamConnections
	// Durable enqueues the tasks, and the replies say that they are accepted. Otherwise the tasks run at once, and
	// the replies have their results.
	Durable bool
	// Defaults has the options for tasks that do not set them. Without Durable, only the timeout is used.
	Defaults client.EnqueueOptions
}

// streamFile sends the tasks of a file until all are answered or ctx ends.
func streamFile(ctx context.Context, config streamConfig) error {
	if n := config.Connections; n < 1 || n > maxStreamConnections {
		return misuse(fmt.Sprintf("1 to %d are allowed", maxStreamConnections), "--connections is %d", n)
	}
	s := &stream{out: config.Out, to: config.To, source: &source{name: config.File, op: wire.OpRun, defaults: config.Defaults}}
	if config.Durable {
		s.source.op = wire.OpEnqueue
	}
	s.source.refused = s.refuse
	file, err := s.open(config.File)
	if err != nil {
		return err
	}
	c, err := s.to.Patient(ctx, config.Connections)
	if err != nil {
		return err
	}
	defer c.Close()
	return s.run(ctx, c, file)
}

// open opens the file and determines its size. The file stays open until the process ends, since a read of stdin
// cannot be interrupted.
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

// run sends the file and returns when all tasks are answered.
func (s *stream) run(ctx context.Context, c *client.Client, file io.Reader) error {
	// On a terminal that shows both, people want the results, and not a million ids.
	toTerminal := s.out.ResultsToTerminal()
	s.silent = toTerminal && s.durable()
	s.bar = terminal.NewProgress(s.out, toTerminal && !s.silent)
	s.stdout = newReplyWriter(s.out.Results())
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

func (s *stream) durable() bool { return s.source.op == wire.OpEnqueue }

// streamOutcome is the outcome of a task.
type streamOutcome struct {
	result   client.Result   // the result of a task that ran at once
	accepted client.Accepted // the acceptance of a durable task
	err      error
}

// outcomes sends the tasks with Stream or StreamEnqueue of the client.
func (s *stream) outcomes(ctx context.Context, c *client.Client, tasks iter.Seq2[origin, client.EnqueueRequest]) iter.Seq2[origin, streamOutcome] {
	return func(yield func(origin, streamOutcome) bool) {
		if s.durable() {
			client.StreamEnqueue(ctx, c, tasks)(func(from origin, a client.Acceptance) bool {
				return yield(from, streamOutcome{accepted: a.Accepted, err: a.Err})
			})
			return
		}
		client.Stream(ctx, c, direct(tasks))(func(from origin, o client.Outcome) bool {
			return yield(from, streamOutcome{result: o.Result, err: o.Err})
		})
	}
}

// direct converts the tasks to requests that run at once.
func direct(tasks iter.Seq2[origin, client.EnqueueRequest]) iter.Seq2[origin, client.Request] {
	return func(yield func(origin, client.Request) bool) {
		tasks(func(from origin, r client.EnqueueRequest) bool {
			return yield(from, client.Request{Action: r.Action, Payload: r.Payload, Timeout: r.Timeout})
		})
	}
}

// exchange sends the tasks and handles the outcomes.
func (s *stream) exchange(ctx context.Context, c *client.Client, file io.Reader) error {
	for from, o := range s.outcomes(ctx, c, s.source.tasks(ctx, file)) {
		s.source.answered(from)
		if err := s.take(from, o); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.source.err
}

// take counts and prints one outcome. It returns an error if the stream cannot continue.
func (s *stream) take(from origin, o streamOutcome) error {
	var failed *client.ActionError
	var refusal *task.Error
	switch err := o.err; {
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
	if s.silent {
		return nil
	}
	switch {
	case refusal != nil:
		s.line = wire.AppendError(s.line[:0], from.id, refusal)
	case s.durable():
		a := &o.accepted
		s.line = wire.AppendAccepted(s.line[:0], from.id, &task.Task{
			ID: a.Task, State: a.State, Options: task.Options{RunAt: a.RunAt},
		}, a.Duplicate, a.Warning)
	default:
		s.line = wire.AppendDone(s.line[:0], from.id, o.result.JSON())
	}
	return s.stdout.write(s.line)
}

// refuse reports a task that was not run.
func (s *stream) refuse(line int, id []byte, why string) {
	s.refused.Add(1)
	s.complain(line, id, why)
}

// complain reports a failed task. After maxComplaints it reports no more.
func (s *stream) complain(line int, id []byte, why string) {
	n := s.told.Add(1)
	if n > maxComplaints {
		return
	}
	where := fmt.Sprintf("%s:%d", s.source.name, line)
	if id != nil {
		where += ": id " + terminal.Cut(string(id), 40)
	}
	s.bar.Talk("posta: error: %s: %s", where, terminal.Cut(why, 300))
	if n == maxComplaints {
		s.bar.Talk("posta: hint: these were the first %d, the others are only counted", maxComplaints)
	}
}

// progress returns the progress line for a terminal.
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

// summary prints a summary and returns the error for the exit code.
func (s *stream) summary(took time.Duration) error {
	done, failed := s.done.Load(), s.failed.Load()
	what := " done"
	if s.durable() {
		what = " accepted"
	}
	parts := []string{terminal.Thousands(done) + what}
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
		return alreadyPrinted(exitFailed)
	}
	return nil
}
