package cli

import (
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/task"
)

// addLimits defines a flag for each limit.
func addLimits(flags *pflag.FlagSet, limits *task.Limits) {
	for _, limit := range limits.Table() {
		addLimit(flags, limit)
	}
}

// addLimit defines the flag of one limit. The help shows the default as the table of limits writes it, since some
// defaults depend on the machine.
func addLimit(flags *pflag.FlagSet, limit task.Limit) {
	switch value := limit.Value.(type) {
	case *time.Duration:
		flags.Var((*secondsFlag)(value), limit.Flag, limit.Help)
		return // a default duration is the same on every machine
	case *int:
		if limit.Unit() == "bytes" {
			flags.Var((*sizeFlag)(value), limit.Flag, limit.Help)
		} else {
			flags.IntVar(value, limit.Flag, *value, limit.Help)
		}
	}
	flags.Lookup(limit.Flag).DefValue = limit.Default
}

// checkLimits refuses values that a node would understand differently than the user. verb is the command whose help
// lists the limits.
func checkLimits(limits *task.Limits, verb string) error {
	full, err := limits.WithDefaults()
	if err != nil {
		return misuse("`"+verb+" --help` lists the limits", "%s", strings.Replace(err.Error(), "limit ", "--", 1))
	}
	given, taken := limits.Table(), full.Table()
	for i := range given {
		if isZero(given[i]) && !isZero(taken[i]) {
			return misuse("leave it out for "+given[i].Default, "--%s is 0, but it cannot be switched off", given[i].Flag)
		}
	}
	return nil
}

func isZero(limit task.Limit) bool {
	switch value := limit.Value.(type) {
	case *int:
		return *value == 0
	case *time.Duration:
		return *value == 0
	}
	return false
}
