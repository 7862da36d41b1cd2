package doctor

import "fmt"

// Verdict says how one part is.
type Verdict string

// The verdicts. Only Wrong makes the exit code 1.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works now, but may fail later
	Wrong   Verdict = "wrong"
)

// Finding is what a check saw of one part.
type Finding struct {
	Part    string  `json:"part"`
	Verdict Verdict `json:"verdict"`
	Saw     string  `json:"saw"`
	Fix     string  `json:"mend,omitempty"` // what to do; empty if the verdict is OK

	stops bool // the checks behind this one make no sense
}

// good is the finding of a part that is as it should be.
func good(format string, args ...any) Finding {
	return Finding{Verdict: OK, Saw: fmt.Sprintf(format, args...)}
}

// doubt is the finding of a part that works now, but may fail later.
func doubt(fix, format string, args ...any) Finding {
	return Finding{Verdict: Warning, Saw: fmt.Sprintf(format, args...), Fix: fix}
}

// fault is the finding of a part that does not work.
func fault(fix, format string, args ...any) Finding {
	return Finding{Verdict: Wrong, Saw: fmt.Sprintf(format, args...), Fix: fix}
}

// of returns the finding for another part than its check's.
func (f Finding) of(part string) Finding {
	f.Part = part
	return f
}

// Sound reports whether no finding is Wrong. Warnings do not count.
func Sound(found []Finding) bool {
	for _, f := range found {
		if f.Verdict == Wrong {
			return false
		}
	}
	return true
}
