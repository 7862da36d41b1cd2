package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError explains a flag that is unknown or has an invalid value.
func flagError(cmd *cobra.Command, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	hint := "see `" + cmd.CommandPath() + " --help`"
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			hint = "did you mean --" + near + "? " + hint
		}
		return misuse(hint, "%w", err)
	}
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		return misuse(hint, "--%s is %q: %s", wrong.GetFlag().Name, redacted(wrong.GetValue()), wants(wrong.GetFlag().Value.Type(), wrong.Unwrap()))
	}
	return misuse(hint, "%w", err)
}

// nearestFlag returns the flag that was probably meant, or "" if none is similar.
func nearestFlag(cmd *cobra.Command, name string) string {
	near, least := "", 3 // a typing mistake needs fewer edits
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if d := distance(name, flag.Name); d < least && d*2 < len(flag.Name) {
			near, least = flag.Name, d
		}
	})
	if near == "" && len(name) > 1 { // --at is short for --run-at
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if near == "" && slices.Contains(strings.Split(flag.Name, "-"), name) {
				near = flag.Name
			}
		})
	}
	return near
}

// distance returns how many letters must be inserted, deleted or replaced to turn one word into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // the value up and left
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			before, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, before+cost)
		}
	}
	return row[len(b)]
}
