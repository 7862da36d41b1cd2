package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

func newWorkers(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "workers",
		GroupID: groupLook,
		Short:   "List the workers that are connected, and what they hold",
		Long: `Lists the workers of the process that answers, which are all of them under ` + "`posta up`" + `:
the node to which each is connected, how many tasks it takes at once, how many it holds,
its version, since when it is connected, its queues and its actions. Nodes in other
processes list their own workers; ask each of them. A worker is stuck if all its slots
hold attempts that are over and that it does not answer.`,
		Example: `  posta workers
  posta workers --json
  posta workers quiet img-311-9f2c`,
		Args: arguments(0, 0),
	}
	addListing(out, cmd, doctor.System.Workers, printWorkers)
	cmd.AddCommand(newQuiet(out))
	return cmd
}

func newQuiet(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "quiet WORKER",
		Short: "Ask a worker to stop: it receives no more tasks",
		Long: `Asks a worker to stop. It receives no more tasks. The tasks that it holds stay with it,
and count when it answers them.`,
		Example: `  posta workers quiet img-311-9f2c`,
		Args:    arguments(1, 1),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	to := addTarget(out, cmd)
	cmd.ValidArgsFunction = asking(to, 0, func(ctx context.Context, _ *client.Client) []string { return workersOf(ctx, to) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), doctor.Patience)
		defer cancel()
		if err := systemOf(to).Quiet(ctx, args[0]); err != nil {
			return to.Unserved(err)
		}
		if asJSON {
			return json.NewEncoder(out.Results()).Encode(struct {
				Worker string `json:"worker"`
				Quiet  bool   `json:"quiet"`
			}{args[0], true})
		}
		_, err := fmt.Fprintf(out.Results(), "worker %s receives no more tasks\n", args[0])
		return err
	}
	return cmd
}

// addListing makes a verb print a list that a node returns over HTTP: as a table, or with --json as a line of JSON for each
// row.
func addListing[T any](out *terminal.Outside, cmd *cobra.Command, read func(doctor.System, context.Context) ([]T, error), table func(io.Writer, []T) error) {
	asJSON := false
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), doctor.Patience)
		defer cancel()
		rows, err := read(systemOf(to), ctx)
		if err != nil {
			return to.Unserved(err)
		}
		if asJSON {
			return printLines(out.Results(), rows)
		}
		return table(out.Stdout, rows)
	}
}

// systemOf returns the system behind a target.
func systemOf(to *target) doctor.System {
	system := doctor.System{Now: time.Now}
	system.Web, system.Base = to.Web()
	return system
}

// workersOf returns the names of the workers.
func workersOf(ctx context.Context, to *target) (names []string) {
	workers, err := systemOf(to).Workers(ctx)
	if err != nil {
		return nil
	}
	for i := range workers {
		names = append(names, workers[i].Worker)
	}
	return names
}

// printWorkers writes a table of workers.
func printWorkers(w io.Writer, workers []doctor.Worker) error {
	table := tabwriter.NewWriter(w, 6, 0, 2, ' ', 0)
	tableRow(table, "WORKER", "NODE", "STATE", "SLOTS", "HELD", "VERSION", "SINCE", "QUEUES", "ACTIONS")
	for i := range workers {
		one := &workers[i]
		state, version := "ready", one.Version
		switch {
		case one.Quiet:
			state = "quiet"
		case one.Stuck:
			state = "stuck"
		}
		if version == "" {
			version = "-"
		}
		tableRow(table, one.Worker, one.Node, state, fmt.Sprint(one.Slots), fmt.Sprint(one.Held), version, one.Since.Local().Format(terminal.Time),
			strings.Join(one.Queues, " "), strings.Join(one.Actions, " "))
	}
	return table.Flush()
}
