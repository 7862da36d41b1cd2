package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/check"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

// shown is how many violations a page lists.
const shown = 20

// page is the report of a run.
func page(run *history.Run, v *check.Verdict, dir string) string {
	var b strings.Builder
	c := &v.Counts
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-22s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("\n")
	line("seed", "%d", run.About.Seed)
	if run.About.Mutant != "" {
		line("mutant", "%s", run.About.Mutant)
	}
	line("requests", "%d: %d replies ok, %d refused, %d unknown", c.Requests, c.OK, c.Fail, c.Info)
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(c.Faults)) {
		faults = append(faults, fmt.Sprintf("%d × %s", c.Faults[name], name))
	}
	line("faults", "%s", strings.Join(faults, ", "))
	line("deaths", "%d, %d of them under a poison task; %d by SIGKILL, %d of these while something ran", c.Deaths, c.Poisoned, c.Kills, c.Busy)
	line("acknowledged", "%d tasks", c.Acknowledged)
	line("lost", "%d", c.Lost)
	line("recovered", "%d tasks whose enqueue was never answered", c.Recovered)
	line("ended", "%d done, %d failed, %d crashed, %d cancelled; %d retries by hand", c.Done, c.Failed, c.Crashed, c.Cancelled, c.Retried)
	if c.Mistaken > 0 {
		line("taken for poison", "%d innocent tasks, killed from outside while they ran alone after the quiet period (docs/adr/0012)", c.Mistaken)
	}
	line("executions", "%d, %d cut short by a death, %d once more after one", c.Executions, c.Cut, c.Again)
	line("duplicated executions", "%d", c.Duplicated)
	line("double records", "%d", c.Doubles)
	line("stale results refused", "%d", c.Stale)
	line("recovery", "%d executions, p50 %v, p99 %v, max %v", c.Recovery.Count, ms(c.Recovery.P50), ms(c.Recovery.P99), ms(c.Recovery.Max))
	if len(v.Violations) == 0 {
		line("verdict", "all %d promises are kept", len(check.Promises()))
		return b.String()
	}
	line("verdict", "%d violations; the run is kept in %s", len(v.Violations), dir)
	for i, violation := range v.Violations {
		if i == shown {
			fmt.Fprintf(&b, "  … and %d more\n", len(v.Violations)-shown)
			break
		}
		fmt.Fprintf(&b, "  %v\n", violation)
	}
	return b.String()
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
