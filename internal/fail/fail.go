// Package fail lets tests break Posta at a place of their choice. A point is a place
// between two steps, where a process may die, stop for a while or be told that the next
// step failed. A mutant is a guard that is taken out, to see whether the tests notice.
//
// All of this exists only in a build with the tag chaos:
//
//	go build -tags chaos ./cmd/posta
//	POSTA_FAILPOINTS='accept.committed=kill;claim.written=error' ./posta node --store sqlite://posta.db
//
// In any other build a point is an empty function and a mutant a constant, so the
// compiler leaves nothing of either. Which failures are tested with them, and how to
// make one happen again, is in docs/reliability.md.
package fail

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// PointsVariable is the environment variable that says what happens at which points: pairs
	// of a name and what happens there, such as "accept.committed=kill;claim.written=error@3".
	//
	//	kill      the process kills itself with SIGKILL
	//	pause:2s  whoever comes by waits for so long
	//	error     the step fails, at points that can say so
	//
	// With @n it happens to whoever comes by for the n-th time, and to nobody else. Without,
	// to everybody.
	PointsVariable = "POSTA_FAILPOINTS"
	// MutantVariable is the environment variable that names the one guard that is taken out.
	MutantVariable = "POSTA_MUTANT"
)

// ErrAsked is what a step fails with at a point where that was asked for.
var ErrAsked = errors.New("a failure that was asked for")

// kind is what happens at a point.
type kind string

const (
	kill  kind = "kill"
	pause kind = "pause"
	fails kind = "error"
)

// order is what somebody asked for at a point.
type order struct {
	kind  kind
	pause time.Duration
	nth   int64 // 0: each time
}

// parse reads what PointsVariable says.
func parse(text string) (map[string]order, error) {
	orders := map[string]order{}
	for item := range strings.SplitSeq(text, ";") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, what, _ := strings.Cut(item, "=")
		point, err := lookup(name)
		if err != nil {
			return nil, err
		}
		o, err := parseOrder(what)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %s: %w", PointsVariable, item, err)
		case o.kind == fails && !point.Fails:
			return nil, fmt.Errorf("%s: %s: nothing can fail at this point; allowed are kill and pause:TIME", PointsVariable, item)
		}
		if _, twice := orders[name]; twice {
			return nil, fmt.Errorf("%s: %s is there twice", PointsVariable, name)
		}
		orders[name] = o
	}
	return orders, nil
}

func lookup(name string) (Place, error) {
	list := Points()
	i := slices.IndexFunc(list, func(p Place) bool { return p.Name == name })
	if i < 0 {
		names := make([]string, len(list))
		for i, p := range list {
			names[i] = p.Name
		}
		return Place{}, fmt.Errorf("%s: there is no point %q; there are: %s", PointsVariable, name, strings.Join(names, " "))
	}
	return list[i], nil
}

var errOrder = errors.New("what happens is kill, error or pause:TIME (at most an hour), each with or without @N, N being 1 or more")

func parseOrder(text string) (o order, err error) {
	text, nth, counted := strings.Cut(text, "@")
	if counted {
		if o.nth, err = strconv.ParseInt(nth, 10, 64); err != nil || o.nth < 1 {
			return o, errOrder
		}
	}
	what, length, timed := strings.Cut(text, ":")
	o.kind = kind(what)
	switch {
	case o.kind == pause && timed:
		o.pause, err = time.ParseDuration(length)
		if err != nil || o.pause <= 0 || o.pause > time.Hour {
			return o, errOrder
		}
	case (o.kind != kill && o.kind != fails) || timed:
		return o, errOrder
	}
	return o, nil
}

// parseMutant checks what MutantVariable says.
func parseMutant(name string) (string, error) {
	list := Mutants()
	if name == "" || slices.ContainsFunc(list, func(m Deviation) bool { return m.Name == name }) {
		return name, nil
	}
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	return "", fmt.Errorf("%s: there is no mutant %q; there are: %s", MutantVariable, name, strings.Join(names, " "))
}
