// Package schedule makes a schedule of faults from a seed, and carries it out. It knows faults only by their names. Each
// system has a table with a function for each fault, so another system with other faults is another table.
package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// The faults of a process.
const (
	Kill    = "kill"    // SIGKILL
	KillAt  = "kill-at" // the process kills itself at a failpoint, or is killed if it does not get there
	Pause   = "pause"   // SIGSTOP, SIGCONT
	Restart = "restart" // SIGTERM
)

// Step is one fault.
type Step struct {
	After  time.Duration // after the end of the previous step, or after its beginning if Along
	Fault  string
	Target string
	For    time.Duration // how long the fault lasts, if it lasts
	Point  string        // the failpoint, if the fault has one
	Along  bool          // the step does not wait for the end of the previous one
	Takes  time.Duration // how long the step takes at least, in addition to For
}

// String returns the step as a run prints it.
func (s Step) String() string {
	text := fmt.Sprintf("+%v %s %s", s.After, s.Fault, s.Target)
	if s.Point != "" {
		text += " at " + s.Point
	}
	if s.Along {
		text = "  and " + text
	}
	if s.For > 0 {
		text += fmt.Sprintf(" for %v", s.For)
	}
	return text
}

// Faults has a function for each fault. It returns when the fault is over, or when only the system can repair what it
// did. An error ends the run.
type Faults map[string]func(ctx context.Context, step Step) error

// Config says what a schedule contains.
type Config struct {
	Seed    uint64
	Targets []string
	Kills   int           // Kill and KillAt together
	Every   time.Duration // the mean time between two steps; 0: 2 s
	Points  []string      // of KillAt; none: only Kill
	Pauses  int           // short ones
	Long    int           // pauses that are longer than a lease
	Restart int
	More    []Kind // faults of this system
	Pairs   int    // the percentage of steps that come in pairs: the last ones
}

// Kind is a fault of one target, and how often it happens.
type Kind struct {
	Fault, Target string
	Count         int
	For           time.Duration // it lasts this long at most; 0: it does not last
	Takes         time.Duration // how long it takes in addition
}

const (
	// shortPause and longPause bound the pauses. A long one outlasts the leases of all running tasks.
	shortPause = 2 * time.Second
	longPause  = 16 * time.Second
	// passes bounds how often a process reaches a failpoint before it dies there, and untilThere how long that may
	// take.
	passes     = 20
	untilThere = 3 * time.Second
	// longest bounds the time between two steps, in multiples of the mean.
	longest = 4
	// moment bounds the time between the two steps of a pair.
	moment = 2 * time.Second
	// early is the percentage of steps that come while the process starts.
	early = 8
)

// Make makes the schedule for a configuration. The same configuration gives the same schedule.
func Make(c Config) []Step {
	random := rand.New(rand.NewPCG(c.Seed, 1))
	c.Every = cmp.Or(c.Every, 2*time.Second)
	var plan []Step
	add := func(n int, one func() Step) {
		for range n {
			s := one()
			s.Target = c.Targets[random.IntN(len(c.Targets))]
			plan = append(plan, s)
		}
	}
	at := 0
	if len(c.Points) > 0 {
		at = c.Kills / 3
	}
	add(c.Kills-at, func() Step { return Step{Fault: Kill} })
	next := random.Perm(max(len(c.Points), 1))
	add(at, func() Step {
		s := Step{Fault: KillAt, Point: fmt.Sprintf("%s=kill@%d", c.Points[next[0]], 1+random.IntN(2)*random.IntN(passes)), For: untilThere}
		next = append(next[1:], next[0])
		return s
	})
	add(c.Pauses, func() Step {
		return Step{Fault: Pause, For: 100*time.Millisecond + upTo(random, shortPause)}
	})
	add(c.Long, func() Step {
		return Step{Fault: Pause, For: longPause + upTo(random, shortPause)}
	})
	add(c.Restart, func() Step { return Step{Fault: Restart} })
	for _, kind := range c.More {
		for range kind.Count {
			s := Step{Fault: kind.Fault, Target: kind.Target, Takes: kind.Takes}
			if kind.For > 0 {
				s.For = max(upTo(random, kind.For), time.Millisecond)
			}
			plan = append(plan, s)
		}
	}
	random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for i := range plan {
		plan[i].After = wait(random, c.Every)
	}
	pair(random, plan, c.Pairs)
	return plan
}

// pair makes pairs of a percentage of the steps, the last ones. The second step of a pair begins a moment after the first,
// and has another target.
func pair(random *rand.Rand, plan []Step, percent int) {
	for first := len(plan) - len(plan)*percent/100; first+1 < len(plan); first += 2 {
		second := first + 1
		for second < len(plan) && plan[second].Target == plan[first].Target {
			second++
		}
		if second == len(plan) {
			return
		}
		plan[first+1], plan[second] = plan[second], plan[first+1]
		plan[first+1].Along, plan[first+1].After = true, upTo(random, moment)
	}
}

// wait returns the time until the next step. It is random, and sometimes almost zero.
func wait(random *rand.Rand, mean time.Duration) time.Duration {
	if random.IntN(100) < early {
		return upTo(random, 100*time.Millisecond)
	}
	d := time.Duration(random.ExpFloat64() * float64(mean))
	return min(d, longest*mean).Round(time.Millisecond)
}

// upTo returns a random time up to a bound.
func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most))).Round(time.Millisecond)
}

// Length returns how long a schedule takes at least.
func Length(plan []Step) (sum time.Duration) {
	for len(plan) > 0 {
		group := plan[:together(plan)]
		longest := time.Duration(0)
		for _, s := range group {
			took := s.After + s.Takes
			if s.Fault != KillAt {
				took += s.For
			}
			longest = max(longest, took)
		}
		sum += longest
		plan = plan[len(group):]
	}
	return sum
}

// together returns how many steps come before one that waits for their end.
func together(plan []Step) int {
	n := 1
	for n < len(plan) && plan[n].Along {
		n++
	}
	return n
}

// Run carries out a schedule until it is over or ctx ends, and notes each step in happened. It calls tell at the beginning of
// each step, with the number of steps that have begun.
func Run(ctx context.Context, plan []Step, faults Faults, happened *history.Log, tell func(begun int, s Step)) error {
	for done := 0; done < len(plan); {
		group := plan[done : done+together(plan[done:])]
		ended := make(chan error)
		for i, s := range group {
			select {
			case <-time.After(s.After):
			case <-ctx.Done(): // one checks it
			}
			tell(done+i+1, s)
			go func() {
				err := fmt.Errorf("%v: it did not return", s) // t.FailNow ends the goroutine
				defer func() { ended <- err }()
				err = one(ctx, s, faults, happened)
			}()
		}
		var err error
		for range group {
			err = errors.Join(err, <-ended)
		}
		if err != nil {
			return err
		}
		done += len(group)
	}
	return ctx.Err()
}

// one carries out a step.
func one(ctx context.Context, s Step, faults Faults, happened *history.Log) error {
	do := faults[s.Fault]
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if do == nil {
		return fmt.Errorf("the system has no fault %q", s.Fault)
	}
	happened.Add(history.Occurrence{At: time.Now().UnixNano(), What: s.Fault, Target: s.Target, Note: s.String()})
	if err := do(ctx, s); err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	return nil
}
