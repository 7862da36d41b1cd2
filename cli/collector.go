package cli

import (
	"runtime/debug"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/node"
)

// garbagePercent is how much garbage a server collects at a time, in percent of the memory that is in use. Go's default
// is 100; with 300 durable tasks need about a fifth less processor time, and the heap may grow to twice its size.
const garbagePercent = 300

// collectLess makes the garbage collector run less often, up to --heap-limit. It changes nothing for users who have set
// GOGC, and keeps their GOMEMLIMIT.
func (f *serveFlags) collectLess(out *terminal.Outside) {
	if f.limits.BufferedBytes == 0 {
		f.limits.BufferedBytes = node.DefaultBuffered() // of the memory as it is without the limit below
	}
	if _, set := out.Lookup("GOGC"); set {
		return
	}
	if _, set := out.Lookup("GOMEMLIMIT"); !set || f.heapLimit > 0 {
		limit := int64(f.heapLimit)
		if limit == 0 {
			limit = node.UsableMemory() / 2
		}
		debug.SetMemoryLimit(limit)
	}
	debug.SetGCPercent(garbagePercent)
}
