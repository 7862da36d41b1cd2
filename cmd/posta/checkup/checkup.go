// Package checkup looks at a system, or at what a node would be started with, and finds what
// is wrong and how to mend it. What is looked at is handed in; printing is left to others.
package checkup

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
	Mend    string  `json:"mend,omitempty"` // what to do
}

// Check looks at one part.
type Check struct {
	Part string
	Look func(ctx context.Context) Finding // Part need not be set
}

// patience bounds each look: what takes longer is away.
const patience = 5 * time.Second

// Run makes the checks one after the other and gives what they found.
func Run(ctx context.Context, checks []Check) []Finding {
	var found []Finding
	for _, check := range checks {
		if ctx.Err() != nil {
			break
		}
		found = append(found, check.run(ctx))
	}
	return found
}

func (c Check) run(ctx context.Context) Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f := c.Look(ctx)
	f.Part = c.Part
	return f
}

// Sound tells whether nothing is wrong; warnings are no fault.
func Sound(found []Finding) bool {
	for _, f := range found {
		if f.Verdict == Wrong {
			return false
		}
	}
	return true
}

// good is a part that is as it should be.
func good(format string, args ...any) Finding {
	return Finding{Verdict: OK, Saw: fmt.Sprintf(format, args...)}
}

// doubtful is a part that works, and may not always.
func doubtful(mend, format string, args ...any) Finding {
	return Finding{Verdict: Warning, Saw: fmt.Sprintf(format, args...), Mend: mend}
}

// wrong is a part that does not work.
func wrong(mend, format string, args ...any) Finding {
	return Finding{Verdict: Wrong, Saw: fmt.Sprintf(format, args...), Mend: mend}
}
