package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError explains a flag that is not known, or whose value is none.
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

// nearestFlag finds the flag whose name was probably meant; empty when none looks like it.
func nearestFlag(cmd *cobra.Command, name string) string {
	near, least := "", 3 // edits that a slip of the fingers may need
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

// distance counts the letters to insert, delete or replace until two words are the same.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of the row above, one to the left
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
