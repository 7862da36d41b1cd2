// Package nemesis decides, from a seed, what is done to a system and when, and does it. It
// knows faults by their names only: a system brings a table that says how each is done,
// so another system, with other faults, is another table.
package nemesis

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

// Step is one thing to be done.
type Step struct {
	After  time.Duration // since the step before it was over, or has begun if it comes along
	Fault  string
	Target string
	For    time.Duration // how long it lasts, where that has a meaning
	Point  string        // where it happens, where that has a meaning
	Along  bool          // it does not wait for the end of the step before it
	Takes  time.Duration // how long it takes at least, beside For
}

// String is the step as the plan prints it.
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

// Faults says how each fault is done. A function returns when the fault is over, or its
// consequences are the system's own affair; an error ends the run.
type Faults map[string]func(ctx context.Context, step Step) error

// Wish says what a plan shall have.
type Wish struct {
	Seed    uint64
	Targets []string
	Kills   int           // Kill and KillAt together
	Every   time.Duration // mean time between two of them; 0: 2 s
	Points  []string      // of KillAt; none: only Kill
	Pauses  int           // short ones
	Long    int           // pauses that are longer than a lease
	Restart int
	More    []Kind // faults that are the system's own
	Pairs   int    // of a hundred steps, how many come in pairs: the last ones
}

// Kind is a fault that befalls one thing, some times.
type Kind struct {
	Fault, Target string
	Count         int
	For           time.Duration // it lasts as long at most; 0: that has no meaning
	Takes         time.Duration // how long it takes beside that
}

const (
	// shortPause and longPause bound the pauses. A long one outlasts the leases of all that runs.
	shortPause = 2 * time.Second
	longPause  = 16 * time.Second
	// comings bounds how often a process comes by a failpoint before it dies there, and untilThere how
	// long that may take.
	comings    = 20
	untilThere = 3 * time.Second
	// longest bounds the time between two steps, in multiples of the mean.
	longest = 4
	// moment bounds the time from the first of a pair to the second.
	moment = 2 * time.Second
	// early is how many of a hundred steps come while the process starts.
	early = 8
)

// Make makes the plan that follows from a wish: the same one for the same wish.
func Make(w Wish) []Step {
	random := rand.New(rand.NewPCG(w.Seed, 1))
	w.Every = cmp.Or(w.Every, 2*time.Second)
	var plan []Step
	add := func(n int, one func() Step) {
		for range n {
			s := one()
			s.Target = w.Targets[random.IntN(len(w.Targets))]
			plan = append(plan, s)
		}
	}
	at := 0
	if len(w.Points) > 0 {
		at = w.Kills / 3
	}
	add(w.Kills-at, func() Step { return Step{Fault: Kill} })
	next := random.Perm(max(len(w.Points), 1))
	add(at, func() Step {
		s := Step{Fault: KillAt, Point: fmt.Sprintf("%s=kill@%d", w.Points[next[0]], 1+random.IntN(2)*random.IntN(comings)), For: untilThere}
		next = append(next[1:], next[0])
		return s
	})
	add(w.Pauses, func() Step {
		return Step{Fault: Pause, For: 100*time.Millisecond + upTo(random, shortPause)}
	})
	add(w.Long, func() Step {
		return Step{Fault: Pause, For: longPause + upTo(random, shortPause)}
	})
	add(w.Restart, func() Step { return Step{Fault: Restart} })
	for _, kind := range w.More {
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
		plan[i].After = wait(random, w.Every)
	}
	pair(random, plan, w.Pairs)
	return plan
}

// pair has so many of a hundred steps, the last ones, come in pairs: the second begins a moment after the
// first, and they do not befall the same.
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

// wait is the time until the next step: mostly as chance has it, sometimes hardly any.
func wait(random *rand.Rand, mean time.Duration) time.Duration {
	if random.IntN(100) < early {
		return upTo(random, 100*time.Millisecond)
	}
	d := time.Duration(random.ExpFloat64() * float64(mean))
	return min(d, longest*mean).Round(time.Millisecond)
}

// upTo is any time up to a bound.
func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most))).Round(time.Millisecond)
}

// Length is how long a plan takes at least.
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

// together is how many steps of a plan come before one that waits for them.
func together(plan []Step) int {
	n := 1
	for n < len(plan) && plan[n].Along {
		n++
	}
	return n
}

// Run does what the plan says until it is over or ctx ends, and notes each step. It tells of each, and
// how many of the plan have begun with it.
func Run(ctx context.Context, plan []Step, faults Faults, happened *history.Log, tell func(begun int, s Step)) error {
	for done := 0; done < len(plan); {
		group := plan[done : done+together(plan[done:])]
		ended := make(chan error)
		for i, s := range group {
			select {
			case <-time.After(s.After):
			case <-ctx.Done(): // the step sees it, too
			}
			tell(done+i+1, s)
			go func() {
				err := fmt.Errorf("%v: it did not return", s) // as what fails a test does not
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

// one does a step.
func one(ctx context.Context, s Step, faults Faults, happened *history.Log) error {
	do := faults[s.Fault]
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if do == nil {
		return fmt.Errorf("the system knows no fault %q", s.Fault)
	}
	happened.Add(history.Occurrence{At: time.Now().UnixNano(), What: s.Fault, Target: s.Target, Note: s.String()})
	if err := do(ctx, s); err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	return nil
}
