// Package fail lets a test break a process of Posta at a place of its choice. A point is a place between two
// steps at which the process can be killed, wait, or get an error instead of the next step.
//
// Points exist only in a build with the tag chaos:
//
//	go build -tags chaos ./cmd/posta
//	POSTA_FAILPOINTS='accept.committed=kill;claim.written=error' ./posta node --store sqlite://posta.db
//
// In any other build a point is an empty function, and the compiler removes it. docs/reliability.md lists the
// points, the tests that use them, and how to repeat a failure.
package fail

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PointsVariable is the environment variable that says what happens at which points: pairs of a name and what
// happens there, such as "accept.committed=kill;claim.written=error@3".
//
//	kill      the process kills itself with SIGKILL
//	pause:2s  the goroutine that reaches the point waits
//	error     the next step fails, at points where one can
//
// With @n this happens only the n-th time that the point is reached, otherwise every time.
const PointsVariable = "POSTA_FAILPOINTS"

// ErrAsked is the error of a step that PointsVariable makes fail.
var ErrAsked = errors.New("a failure that was asked for")

// kind is what happens at a point.
type kind string

const (
	kill  kind = "kill"
	pause kind = "pause"
	fails kind = "error"
)

// order is what PointsVariable requests for a point.
type order struct {
	kind  kind
	pause time.Duration
	nth   int64 // 0: each time
}

// parse parses PointsVariable.
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
