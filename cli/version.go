package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// protocol is the version of the line protocol.
const protocol = 1

// versions is the output of `posta version`.
type versions struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the program, the protocol and Go",
		Example: `  posta version
  posta version --json`,
		Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := versions{version(), protocol, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				return json.NewEncoder(out.Results()).Encode(v)
			}
			_, err := fmt.Fprintf(out.Stdout, "posta %s, protocol %d, %s, %s\n", v.Version, v.Protocol, v.Go, v.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// version returns the version of Posta from the Go tool: the tag of a release, or the commit of a build from a
// clone. In a program that imports Posta, it is the version of that dependency.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return versionIn(info)
}

// module is the module path of Posta.
const module = "github.com/posta-tasks/posta"

func versionIn(info *debug.BuildInfo) string {
	found := info.Main
	for _, m := range info.Deps {
		if m.Path == module {
			found = *m
		}
	}
	if found.Replace != nil {
		found = *found.Replace
	}
	if found.Version == "" || found.Version == "(devel)" {
		return "devel"
	}
	return found.Version
}
