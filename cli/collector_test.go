package cli

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/node"
)

func TestTheGarbageCollectorRunsLessOftenUnlessTheUserHasSetIt(t *testing.T) {
	memory, buffered := node.UsableMemory(), node.DefaultBuffered()
	for name, c := range map[string]struct {
		variables []string
		flag      sizeFlag
		percent   int
		limit     int64
	}{
		"nothing is set":      {nil, 0, garbagePercent, memory / 2},
		"--heap-limit":        {nil, 256 << 20, garbagePercent, 256 << 20},
		"GOGC":                {[]string{"GOGC=50"}, 256 << 20, 100, math.MaxInt64},
		"GOMEMLIMIT":          {[]string{"GOMEMLIMIT=1GiB"}, 0, garbagePercent, math.MaxInt64},
		"GOMEMLIMIT and flag": {[]string{"GOMEMLIMIT=1GiB"}, 256 << 20, garbagePercent, 256 << 20},
	} {
		percentBefore, limitBefore := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
		f := &serveFlags{heapLimit: c.flag}
		f.collectLess(&terminal.Outside{Env: c.variables})
		if percent, limit := debug.SetGCPercent(percentBefore), debug.SetMemoryLimit(limitBefore); percent != c.percent || limit != c.limit {
			t.Errorf("%s: the percentage is %d and the limit %d, want %d and %d", name, percent, limit, c.percent, c.limit)
		}
		if f.limits.BufferedBytes != buffered {
			t.Errorf("%s: clients may buffer %d bytes, want %d", name, f.limits.BufferedBytes, buffered)
		}
	}
}
