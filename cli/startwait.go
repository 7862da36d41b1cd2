package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// maxStartWait is how long a server waits before it exits. Its supervisor may then start it again.
	maxStartWait = time.Minute
	// startPause is the time between two attempts.
	startPause = 500 * time.Millisecond
	// startLogEvery is how often the server logs what it waits for.
	startLogEvery = 5 * time.Second
)

// startPart is a part that a server needs at its start.
type startPart struct {
	Name   string // its name in the log, such as "the store"
	Open   func(ctx context.Context) error
	Passes func(err error) bool // reports whether another attempt may succeed
	Logger *slog.Logger
}

// lateError says that a part did not answer in time.
type lateError struct {
	Waited time.Duration
	Err    error // the error of the last attempt
}

// Error returns the last error, and for how long there was an error.
func (e *lateError) Error() string {
	return fmt.Sprintf("%v (waited for %s)", e.Err, e.Waited.Round(time.Second))
}

// Unwrap returns the error of the last attempt.
func (e *lateError) Unwrap() error { return e.Err }

// startCode returns the exit code for an error of openInTime. A supervisor starts the server again if a part was
// late, but not if the configuration is refused.
func startCode(err error) int {
	var late *lateError
	if errors.As(err, &late) {
		return exitUnreachable
	}
	return exitConfig
}

// openInTime opens a part. While its errors may pass, it tries again for up to Most, and logs what it waits for. It
// returns the error of ctx when ctx ends, a lateError after Most, and any other error of Open at once.
func openInTime(ctx context.Context, p startPart) error {
	began := time.Now()
	var logged time.Time
	for {
		err := p.Open(ctx)
		waited := time.Since(began)
		switch {
		case err == nil:
			if !logged.IsZero() {
				p.Logger.Info("the part that this node waited for is available", "part", p.Name, "ms", waited.Milliseconds())
			}
			return nil
		case ctx.Err() != nil:
			return p.stopped(ctx)
		case !p.Passes(err):
			return err
		case waited >= maxStartWait:
			return &lateError{Waited: waited, Err: err}
		}
		if logged.IsZero() || time.Since(logged) >= startLogEvery {
			logged = time.Now()
			p.Logger.Warn("waiting for what this node needs", "part", p.Name, "error", err,
				"s", int(waited.Seconds()), "at_most_s", int(maxStartWait.Seconds()))
		}
		select {
		case <-time.After(startPause):
		case <-ctx.Done():
			return p.stopped(ctx)
		}
	}
}

func (p startPart) stopped(ctx context.Context) error {
	p.Logger.Info("stopped while waiting", "part", p.Name)
	return ctx.Err()
}
