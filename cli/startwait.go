package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// maxStartWait is how long a server waits before it gives up, and its supervisor starts it again.
	maxStartWait = time.Minute
	// startPause is between two tries.
	startPause = 500 * time.Millisecond
	// startLogEvery is how often the log says what is waited for.
	startLogEvery = 5 * time.Second
)

// startPart is what a server cannot start without.
type startPart struct {
	Name   string // as the log says it, such as "the store"
	Open   func(ctx context.Context) error
	Passes func(err error) bool // whether trying again may help
	Logger *slog.Logger
}

// lateError says that a part has not come in time.
type lateError struct {
	Waited time.Duration
	Err    error // of the last try
}

// Error tells the last error and how long it has been so.
func (e *lateError) Error() string {
	return fmt.Sprintf("%v (waited for %s)", e.Err, e.Waited.Round(time.Second))
}

// Unwrap returns the error of the last try.
func (e *lateError) Unwrap() error { return e.Err }

// startCode is the exit code for an error of Opened: who has come late is waited for again by the
// supervisor, and a configuration that is refused is not.
func startCode(err error) int {
	var late *lateError
	if errors.As(err, &late) {
		return exitUnreachable
	}
	return exitConfig
}

// openInTime opens the part, again and again for Most while its errors pass, and says in the log what it
// waits for. It gives the context's error when that ends first, a LateError after the time, and other
// errors of Open at once.
func openInTime(ctx context.Context, p startPart) error {
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
		case waited >= maxStartWait:
			return &lateError{Waited: waited, Err: err}
		}
		if told.IsZero() || time.Since(told) >= startLogEvery {
			told = time.Now()
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
	p.Logger.Info("told to stop while waiting", "part", p.Name)
	return ctx.Err()
}
