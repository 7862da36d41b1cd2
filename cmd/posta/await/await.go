// Package await opens what a server needs and what may come up after it: machines that start
// together do so in any order. What is opened, and which of its errors pass, is left to others.
package await

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/posta-tasks/posta/cmd/posta/exit"
)

const (
	// Most is how long a server waits before it gives up, and its supervisor starts it again.
	Most = time.Minute
	// pause is between two tries.
	pause = 500 * time.Millisecond
	// tellEvery is how often the log says what is waited for.
	tellEvery = 5 * time.Second
)

// Part is what a server cannot start without.
type Part struct {
	Name   string // as the log says it, such as "the store"
	Open   func(ctx context.Context) error
	Passes func(err error) bool // whether trying again may help
	Logger *slog.Logger
}

// LateError says that a part has not come in time.
type LateError struct {
	Waited time.Duration
	Err    error // of the last try
}

// Error tells the last error and how long it has been so.
func (e *LateError) Error() string {
	return fmt.Sprintf("%v (waited for %s)", e.Err, e.Waited.Round(time.Second))
}

// Unwrap gives the error of the last try.
func (e *LateError) Unwrap() error { return e.Err }

// Code is the exit code for an error of Opened: who has come late is waited for again by the
// supervisor, and a configuration that is refused is not.
func Code(err error) int {
	var late *LateError
	if errors.As(err, &late) {
		return exit.Unreachable
	}
	return exit.Config
}

// Opened opens the part, again and again for Most while its errors pass, and says in the log what it
// waits for. It gives the context's error when that ends first, a LateError after the time, and other
// errors of Open at once.
func Opened(ctx context.Context, p Part) error {
	began := time.Now()
	var told time.Time
	for {
		err := p.Open(ctx)
		waited := time.Since(began)
		switch {
		case err == nil:
			if !told.IsZero() {
				p.Logger.Info("what was waited for is there", "part", p.Name, "ms", waited.Milliseconds())
			}
			return nil
		case ctx.Err() != nil:
			return p.stopped(ctx)
		case !p.Passes(err):
			return err
		case waited >= Most:
			return &LateError{Waited: waited, Err: err}
		}
		if told.IsZero() || time.Since(told) >= tellEvery {
			told = time.Now()
			p.Logger.Warn("waiting for what this node needs", "part", p.Name, "error", err,
				"s", int(waited.Seconds()), "at_most_s", int(Most.Seconds()))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return p.stopped(ctx)
		}
	}
}

func (p Part) stopped(ctx context.Context) error {
	p.Logger.Info("told to stop while waiting", "part", p.Name)
	return ctx.Err()
}
