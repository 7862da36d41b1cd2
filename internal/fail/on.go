//go:build chaos

package fail

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// armed is an order, and how often its point was reached.
type armed struct {
	order
	passed atomic.Int64
}

// ordered has, for each point, what the environment asks for. It is read once. A wrong order ends the
// process, since a test whose fault does not happen proves nothing.
var ordered = sync.OnceValue(func() map[string]*armed {
	orders, err := parse(os.Getenv(PointsVariable))
	if err != nil {
		fmt.Fprintf(os.Stderr, "posta: error: %v\n", err)
		os.Exit(2)
	}
	points := map[string]*armed{}
	for name, o := range orders {
		points[name] = &armed{order: o}
	}
	return points
})

// Point is a place where the process may die or wait.
func Point(name string) { _ = Error(name) }

// Error is a place where the process may die or wait, or where the next step may be made to fail: then Error returns
// ErrAsked.
func Error(name string) error {
	a := ordered()[name]
	if a == nil || (a.passed.Add(1) != a.nth && a.nth != 0) {
		return nil
	}
	switch a.kind {
	case kill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	case pause:
		time.Sleep(a.pause)
	case fails:
		return fmt.Errorf("%s: %w", name, ErrAsked)
	}
	return nil
}
