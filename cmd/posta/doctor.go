package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cmd/posta/checkup"
	"github.com/posta-tasks/posta/cmd/posta/exit"
	"github.com/posta-tasks/posta/cmd/posta/target"
	"github.com/posta-tasks/posta/cmd/posta/terminal"
)

// doctorFlags is what the command line says.
type doctorFlags struct {
	to    *target.Target
	ready bool
	json  bool
}

func newDoctor(out *terminal.Outside) *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:     "doctor",
		GroupID: groupServe,
		Short:   "Say what is wrong with a system, and how to mend it",
		Long: `Asks a running system whether it is ready, who answers, whether a token is missing,
and whether versions and clocks agree. Each finding is ok, a warning or wrong; beneath
the latter two stands how to mend it. The exit code is 1 if something is wrong.

With --ready it only asks for /readyz, which needs no token: what a container's health
check wants, where there is no shell.`,
		Example: `  posta doctor
  posta doctor --to 127.0.0.1:9001 --json
  posta doctor --ready --to 127.0.0.1:9001`,
		Args: arguments(0, 0),
	}
	f.to = target.Add(out, cmd)
	cmd.Flags().BoolVar(&f.ready, "ready", false, "only ask whether the node takes new work")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return doctor(cmd.Context(), out, f) }
	return cmd
}

// doctor looks at the running system.
func doctor(ctx context.Context, out *terminal.Outside, f *doctorFlags) error {
	lines, err := f.to.Client(1, target.DialTimeout)
	if err != nil {
		return err
	}
	defer lines.Close()
	system := checkup.System{Lines: lines, Version: version(), Now: time.Now}
	system.Web, system.Base = f.to.Web()
	if f.ready {
		return f.printReady(ctx, out, system)
	}
	found := checkup.Run(ctx, system.Checks())
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkup.Print(out.Stdout, found, f.json); err != nil {
		return err
	}
	if !checkup.Sound(found) {
		return exit.Told(exit.Failed)
	}
	return nil
}

// printReady answers the one question of a health check.
func (f *doctorFlags) printReady(ctx context.Context, out *terminal.Outside, system checkup.System) error {
	ctx, cancel := context.WithTimeout(ctx, target.DialTimeout)
	defer cancel()
	if err := system.Ready(ctx); err != nil {
		var asked *url.Error
		if errors.As(err, &asked) {
			err = asked.Err // the rest names the URL, which nobody typed
		}
		return exit.Fail(exit.Failed, "`posta doctor --to "+f.to.Addr+"` looks at more", "not ready: %w", err)
	}
	if f.json {
		return json.NewEncoder(out.Stdout).Encode(map[string]bool{"ready": true})
	}
	_, err := fmt.Fprintln(out.Stdout, "ready")
	return err
}
