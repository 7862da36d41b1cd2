// Package doctor finds what is wrong with a running system, or with what a node would be started
// with, and says how to fix it. The drivers report what they see; this package judges it.
package doctor

import (
	"context"
	"fmt"
	"time"
)

// Verdict says how one part is.
type Verdict string

// The verdicts. Only Wrong is a reason for an exit code.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works, and may not always
	Wrong   Verdict = "wrong"
)

// Finding is what was seen of one part.
type Finding struct {
	Part    string  `json:"part"`
	Verdict Verdict `json:"verdict"`
	Saw     string  `json:"saw"`
	Fix     string  `json:"mend,omitempty"` // what to do
}

// Of returns the finding for a part of a part.
func (f Finding) Of(part string) Finding {
	f.Part = part
	return f
}

// Check looks at one part, and finds something about it, or about several parts of it.
type Check struct {
	Part string
	Look func(ctx context.Context) []Finding // those without a Part are of the check's
	// First says that the checks after it make no sense when it finds something wrong.
	First bool
}

// Patience bounds each look: what takes longer is away.
const Patience = 10 * time.Second

// Run makes the checks one after the other and gives what they found.
func Run(ctx context.Context, checks []Check) []Finding {
	var found []Finding
	for _, check := range checks {
		if ctx.Err() != nil {
			break
		}
		now := check.run(ctx)
		found = append(found, now...)
		if check.First && !Sound(now) {
			break
		}
	}
	return found
}

func (c Check) run(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	found := c.Look(ctx)
	for i := range found {
		if found[i].Part == "" {
			found[i].Part = c.Part
		}
	}
	return found
}

// One makes a check that finds one thing.
func One(part string, look func(ctx context.Context) Finding) Check {
	return Check{Part: part, Look: func(ctx context.Context) []Finding { return []Finding{look(ctx)} }}
}

// Sound reports whether nothing is wrong; warnings are no fault.
func Sound(found []Finding) bool {
	for _, f := range found {
		if f.Verdict == Wrong {
			return false
		}
	}
	return true
}

// Good is a part that is as it should be.
func Good(format string, args ...any) Finding {
	return Finding{Verdict: OK, Saw: fmt.Sprintf(format, args...)}
}

// Doubt is a part that works, and may not always.
func Doubt(fix, format string, args ...any) Finding {
	return Finding{Verdict: Warning, Saw: fmt.Sprintf(format, args...), Fix: fix}
}

// Fault is a part that does not work.
func Fault(fix, format string, args ...any) Finding {
	return Finding{Verdict: Wrong, Saw: fmt.Sprintf(format, args...), Fix: fix}
}

// UnknownURLError says that no driver knows the scheme of a URL.
type UnknownURLError struct {
	Kind    string // of driver, such as "store"
	Allowed string // the URLs that are known
}

// Error names the kind of driver, but not the URL, which may have a password.
func (e *UnknownURLError) Error() string { return "no such " + e.Kind + ": allowed are " + e.Allowed }
