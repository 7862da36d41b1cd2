package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/cli/terminal"
)

// variableOf returns the environment variable of a flag: POSTA_DRAIN_DELAY for --drain-delay.
func variableOf(flag string) string {
	return "POSTA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// withVariables adds an environment variable to each flag of a verb, or only to the flags with the given names. The
// help shows it, and it sets the flag if the command line does not. Call it after all flags are defined.
func withVariables(out *terminal.Outside, cmd *cobra.Command, names ...string) *cobra.Command {
	var flags []*pflag.Flag
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if len(names) > 0 && !contains(names, flag.Name) {
			return
		}
		flag.Usage += " [$" + variableOf(flag.Name) + "]"
		flags = append(flags, flag)
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, flag := range flags {
			warnOfSecrets(out, flag)
			if err := fromEnvironment(out, cmd, flag); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// fromEnvironment sets a flag that the command line does not set. An empty variable counts as unset.
func fromEnvironment(out *terminal.Outside, cmd *cobra.Command, flag *pflag.Flag) error {
	text := out.Getenv(variableOf(flag.Name))
	if flag.Changed || text == "" {
		return nil
	}
	if err := cmd.Flags().Set(flag.Name, text); err != nil {
		return misuse(fmt.Sprintf("it stands in for --%s; see `%s --help`", flag.Name, cmd.CommandPath()),
			"the environment variable %s is %q: %s", variableOf(flag.Name), redacted(text), wants(flag.Value.Type(), flag.Value.Set(text)))
	}
	return nil
}

// wants returns what the value of a flag must be. Flags of our own types say it in their errors. The errors of the
// other types name functions of the standard library.
func wants(kind string, err error) string {
	switch {
	case kind == "int" || kind == "int64":
		return "want a whole number"
	case kind == "bool":
		return "want true or false"
	case kind == "duration" && err != nil && strings.HasPrefix(err.Error(), "time:"):
		return "want a number with its unit, such as 200ms or 1m30s"
	case err != nil:
		return err.Error()
	}
	return "want a " + kind
}

func contains(list []string, name string) bool {
	for _, entry := range list {
		if entry == name {
			return true
		}
	}
	return false
}
