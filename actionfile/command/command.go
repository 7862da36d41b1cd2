// Package command runs a program as an action. The payload is its standard input, its standard output is the
// result, and its exit code says how the attempt ended.
//
// A program gets its own environment, its own process group and an empty home directory. When its attempt ends, its
// whole process group is killed and the home directory is removed:
//
//	start ──→ exit ──────────────────→ kill the group ──→ reap
//	   └─ timeout, cancel ──→ TERM ──→ 5 s ──→ KILL ──┘
//
// A process that leaves the group (setsid) is not killed. It cannot delay the attempt.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
)

const (
	// KillAfter is the time between SIGTERM and SIGKILL.
	KillAfter = 5 * time.Second
	// waitDelay is how long an attempt waits for the end of the output after its program has ended. A process that
	// has left the group may still have it open.
	waitDelay = 2 * time.Second
	// MaxStderr is the maximal size of the error text in bytes: how the program ended, and the last part of its
	// standard error.
	MaxStderr = 4 << 10
	// ExitRetry is the exit code that always means "try again" (EX_TEMPFAIL in sysexits.h).
	ExitRetry = 75
	// defaultOutput is the maximal output in bytes if the call sets no limit.
	defaultOutput = 1 << 20
)

// Command is a program that serves an action.
type Command struct {
	Path      string   // the absolute path of the program
	Args      []string // the program's name, then its arguments
	Dir       string   // working directory
	Env       []string // NAME=VALUE, in addition to what every program gets
	Secrets   []string // values that no error may contain
	Permanent []int    // exit codes after which the task is not tried again
	Limits    Limits
}

// Limits has the limits of each process of a program. 0 means no limit.
type Limits struct {
	Memory uint64 // bytes of address space
	CPU    uint64 // seconds of CPU time
	Files  uint64 // open files
}

// none reports whether there is no limit.
func (l Limits) none() bool { return l == Limits{} }

// errClosed is the error of an attempt that begins after Runner.Close.
var errClosed = errors.New("the node stops")

// Inherited returns the variables that a program gets from the environment of this process: PATH and LANG.
func Inherited() []string {
	get := func(name, fallback string) string {
		if value := os.Getenv(name); value != "" {
			return name + "=" + value
		}
		return name + "=" + fallback
	}
	return []string{get("PATH", "/usr/local/bin:/usr/bin:/bin"), get("LANG", "C.UTF-8")}
}

// environment returns all variables of an attempt.
func (c *Command) environment(ctx context.Context, call *actions.Call, home string) []string {
	env := append(Inherited(), "HOME="+home)
	env = append(env, c.Env...)
	env = append(env, "POSTA_ACTION="+call.Action, "POSTA_TASK="+call.Task, "POSTA_ATTEMPT="+strconv.Itoa(max(call.Attempt, 1)))
	if deadline, ok := ctx.Deadline(); ok {
		seconds := math.Ceil(time.Until(deadline).Seconds()*10) / 10
		env = append(env, "POSTA_TIMEOUT="+strconv.FormatFloat(max(seconds, 0), 'f', -1, 64))
	}
	return env
}

// failure returns the error of an attempt whose program did not exit with 0.
func (c *Command) failure(how string, exit int, stderr string) error {
	text := how
	for _, secret := range c.Secrets {
		stderr = strings.ReplaceAll(stderr, secret, "[secret]")
	}
	if stderr = strings.TrimSpace(lastBytes(stderr, MaxStderr-len(how)-len(": "))); stderr != "" {
		text += ": " + stderr
	}
	err := errors.New(text)
	if exit > 0 && exit != ExitRetry && slices.Contains(c.Permanent, exit) {
		return actions.Permanent(err)
	}
	return err
}

// lastBytes returns at most the last most bytes of a text, starting with a whole rune.
func lastBytes(text string, most int) string {
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// data appends the result of a program that exited with 0.
func data(dst, output []byte) []byte {
	n := len(output)
	if n > 0 && output[n-1] == '\n' {
		if n--; n > 0 && output[n-1] == '\r' {
			n--
		}
	}
	return actions.AppendData(dst, output[:n])
}

// output collects standard output up to a limit.
type output struct {
	most int
	text []byte
	full chan struct{} // closed when the output exceeds most
}

func newOutput(call *actions.Call) *output {
	most := call.MaxResult
	if most <= 0 {
		most = defaultOutput
	}
	return &output{most: most, full: make(chan struct{})}
}

// Write implements io.Writer. It fails when the output exceeds the limit.
func (o *output) Write(p []byte) (int, error) {
	if len(o.text)+len(p) > o.most {
		select {
		case <-o.full:
		default:
			close(o.full)
		}
		return 0, errors.New("too much output")
	}
	o.text = append(o.text, p...)
	return len(p), nil
}

// tail keeps the last bytes that are written to it.
type tail struct{ text []byte }

// Write implements io.Writer. It never fails.
func (t *tail) Write(p []byte) (int, error) {
	const kept = 2 * MaxStderr // more than an error includes, so that a secret is found whole
	if t.text = append(t.text, p[max(0, len(p)-kept):]...); len(t.text) > 2*kept {
		t.text = append(t.text[:0], t.text[len(t.text)-kept:]...)
	}
	return len(p), nil
}

// input passes the payload to the program. After the end of the program, an error of the payload is ignored.
type input struct {
	io.Reader
	over   atomic.Bool
	failed atomic.Pointer[error]
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !i.over.Load() {
		err = fmt.Errorf("the payload cannot be read: %w", err)
		i.failed.Store(&err)
	}
	return n, err
}
