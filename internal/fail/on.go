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

// armed is an order and how many have come by.
type armed struct {
	order
	passed atomic.Int64
}

// plan is what the environment asks of this process; it is read once.
type plan struct {
	points map[string]*armed
	mutant string
}

var ordered = sync.OnceValue(func() *plan {
	orders, err := parse(os.Getenv(PointsVariable))
	refuse(err)
	mutant, err := parseMutant(os.Getenv(MutantVariable))
	refuse(err)
	p := &plan{points: map[string]*armed{}, mutant: mutant}
	for name, o := range orders {
		p.points[name] = &armed{order: o}
	}
	return p
})

// refuse ends the process, since a fault that nobody will see proves nothing.
func refuse(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "posta: error: %v\n", err)
		os.Exit(2)
	}
}

// Point is a place where the process may die or wait.
func Point(name string) { _ = Error(name) }

// Error is a place where the process may die or wait, or the next step may be told to fail:
// then it gives ErrAsked.
func Error(name string) error {
	a := ordered().points[name]
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

// Mutant tells whether a guard is to be taken out.
func Mutant(name string) bool { return ordered().mutant == name }
