package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cmd/posta/checkup"
	"github.com/posta-tasks/posta/cmd/posta/exit"
	"github.com/posta-tasks/posta/cmd/posta/target"
	"github.com/posta-tasks/posta/cmd/posta/terminal"
	"github.com/posta-tasks/posta/task"
)

// doctorFlags is what the command line says.
type doctorFlags struct {
	to      *target.Target
	asked   bool // --to or POSTA_TO was given
	data    string
	drivers drivers
	tokens  string
	ready   bool
	json    bool
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

With --data, --store, --blobs or --token-file it looks at what a node would be started
with: directories and the space in them, the database, its clock and its schema, the
bucket, the file of tokens, the limit of open files. It changes nothing. The running
system is then looked at only if --to is given as well.

With --ready it only asks for /readyz, which needs no token: what a container's health
check wants, where there is no shell.`,
		Example: `  posta doctor
  posta doctor --to 127.0.0.1:9001 --json
  posta doctor --data /var/lib/posta --token-file tokens
  POSTA_STORE=postgres://posta:PASSWORD@db/posta posta doctor --blobs 's3://posta?endpoint=https://s3.internal'
  posta doctor --ready --to 127.0.0.1:9001`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "look at the data `directory` of posta up")
	flags.StringVar(&f.drivers.store, "store", "", "look at the store that the `URL` names")
	flags.StringVar(&f.drivers.blobs, "blobs", "", "look at the storage for blobs that the `URL` names")
	flags.StringVar(&f.tokens, "token-file", "", "look at the `file` with tokens")
	f.drivers.env = out.Lookup
	f.to = target.Add(out, cmd, "data", "store", "blobs", "token-file")
	flags.BoolVar(&f.ready, "ready", false, "only ask whether the node takes new work")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.asked = flags.Changed("to")
		return doctor(cmd.Context(), out, f)
	}
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
		return f.ask(ctx, out, system)
	}
	checks, err := f.local()
	if err != nil {
		return err
	}
	if len(checks) == 0 || f.asked {
		checks = append(checks, system.Checks()...)
	}
	found := checkup.Run(ctx, checks)
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

// local gives the checks of what a node would be started with; none when nothing is named.
func (f *doctorFlags) local() ([]checkup.Check, error) {
	var checks []checkup.Check
	if f.data != "" {
		checks = append(checks, checkup.Directory("data", f.data))
	}
	if f.drivers.store != "" {
		check, err := f.drivers.checkStore()
		if err != nil {
			return nil, err
		}
		checks = append(checks, check)
	}
	if f.drivers.blobs != "" {
		check, err := f.drivers.checkBlobs()
		if err != nil {
			return nil, err
		}
		checks = append(checks, check)
	}
	if f.tokens != "" {
		checks = append(checks, checkup.Probe("tokens", "can be read", "a NAME and a TOKEN on each line; chmod 600", func(context.Context) error {
			_, err := auth.LoadTokens(f.tokens)
			return err
		}))
	}
	if len(checks) > 0 {
		checks = append(checks, checkup.Descriptors(task.DefaultConnections))
	}
	return checks, nil
}

// ask answers the one question of a health check.
func (f *doctorFlags) ask(ctx context.Context, out *terminal.Outside, system checkup.System) error {
	if err := system.PrintReady(ctx, out.Stdout, f.json); err != nil {
		return exit.Fail(exit.Failed, "`posta doctor --to "+f.to.Addr+"` looks at more", "not ready: %w", err)
	}
	return nil
}
