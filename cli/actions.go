package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/actionfile"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/worker/child"
)

// defaultActions is the name of the actions file that posta up reads if it exists.
const defaultActions = "actions.toml"

const actionsLong = `An actions file defines actions that need no Go: programs, HTTP endpoints and workers.

  [action.greet]
  kind    = "exec"
  command = ["sh", "greet.sh"]    # the payload on stdin, the result on stdout

  [action.crm]
  kind    = "http"
  url     = "https://crm.example.com/hooks/posta"
  secret  = "env:CRM_SECRET"      # signs the requests
  slots   = 20                    # at once on a node
  timeout = "30s"                 # at most, for one attempt

  [action.report]
  kind    = "worker"              # a program that asks for tasks on its stdout
  command = ["python3", "report.py"]
  count   = 2                     # processes

` + "`posta node --actions FILE`" + ` and ` + "`posta up`" + ` (by default with ./actions.toml, if it
exists) run them. They read the file again when it changes, and at SIGHUP.`

func newActions(out *terminal.Outside, list []actions.Action) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "actions",
		GroupID: groupServe,
		Short:   "Check an actions file, or list the actions of a running system",
		Long:    actionsLong,
		Example: `  posta actions check actions.toml
  posta actions list`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newActionsCheck(out, list), newActionsList(out))
	return cmd
}

func newActionsCheck(out *terminal.Outside, list []actions.Action) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check an actions file without a server",
		Long: `Reads an actions file as a node would, finds the programs and secrets that it names,
and lists all problems with their line numbers. The exit code is 0 if there is none, and
78 otherwise. The command starts no program and calls no endpoint. HASH changes when
the definition of the action does. With --json, errors are printed to stdout, too.`,
		Example: `  posta actions check actions.toml
  CRM_SECRET=whsec_… posta actions check actions.toml --json`,
		Args: arguments(1, 1),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		definitions, err := actionfile.Check(actionsConfig(out, args[0], list))
		if err != nil {
			return actionsFailure(out, err, asJSON)
		}
		return printDefinitions(out, definitions, asJSON)
	}
	return cmd
}

// definitionLine is a definition in the output of --json.
type definitionLine struct {
	Action  string  `json:"action"`
	Kind    string  `json:"kind"`
	Line    int     `json:"line"`
	Count   int     `json:"count,omitempty"`
	Slots   int     `json:"slots,omitempty"`
	Timeout float64 `json:"timeout,omitempty"`
	Hash    string  `json:"hash"`
	Runs    string  `json:"runs"`
}

// printDefinitions prints the definitions of a file.
func printDefinitions(out *terminal.Outside, definitions []actionfile.Definition, asJSON bool) error {
	if asJSON {
		lines := make([]definitionLine, len(definitions))
		for i, d := range definitions {
			lines[i] = definitionLine{d.Name, d.Kind, d.Line, d.Count, d.Slots, d.Timeout.Seconds(), d.Hash, d.Target}
		}
		return printLines(out.Stdout, lines)
	}
	table := tabwriter.NewWriter(out.Stdout, 6, 0, 2, ' ', 0)
	tableRow(table, "ACTION", "KIND", "SLOTS", "TIMEOUT", "HASH", "RUNS")
	for _, d := range definitions {
		slots, timeout := "-", "-"
		if d.Slots > 0 {
			slots = fmt.Sprint(d.Slots)
		}
		if d.Timeout > 0 {
			timeout = d.Timeout.String()
		}
		runs := d.Target
		if d.Count > 0 {
			runs += " (" + count(d.Count, "process") + ")"
		}
		tableRow(table, d.Name, d.Kind, slots, timeout, d.Hash, runs)
	}
	return table.Flush()
}

func newActionsList(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the actions of a running system, and the nodes that have them",
		Long: `Lists the actions of all live nodes that share the store. If the node that answers has
no store, it lists the actions of that node.`,
		Example: `  posta actions list
  posta actions list --json`,
		Args: arguments(0, 0),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), doctor.Patience)
		defer cancel()
		nodes, err := nodesOf(ctx, to)
		if err != nil {
			return to.Unserved(err)
		}
		return printActions(out, nodes, asJSON)
	}
	return cmd
}

// nodesOf returns the live nodes, or the node that answers if it has no store.
func nodesOf(ctx context.Context, to *target) ([]doctor.Node, error) {
	system := systemOf(to)
	nodes, err := system.Nodes(ctx)
	if err == nil || !doctor.IsWithoutStore(err) {
		return nodes, err
	}
	c, err := to.Client(1, -1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	return []doctor.Node{{Node: info.Node, Actions: info.Actions}}, nil
}

// actionLine is an action in the output of --json.
type actionLine struct {
	Action string   `json:"action"`
	Nodes  []string `json:"nodes"`
}

// printActions prints the actions, sorted by name, with the nodes that have each.
func printActions(out *terminal.Outside, nodes []doctor.Node, asJSON bool) error {
	having := map[string][]string{}
	for i := range nodes {
		for _, action := range nodes[i].Actions {
			having[action] = append(having[action], nodes[i].Node)
		}
	}
	var lines []actionLine
	for _, action := range slices.Sorted(maps.Keys(having)) {
		lines = append(lines, actionLine{action, having[action]})
	}
	if asJSON {
		return printLines(out.Stdout, lines)
	}
	table := tabwriter.NewWriter(out.Stdout, 6, 0, 2, ' ', 0)
	tableRow(table, "ACTION", "NODES")
	for _, line := range lines {
		tableRow(table, line.Action, strings.Join(line.Nodes, " "))
	}
	return table.Flush()
}

// actionsConfig returns the configuration for reading an actions file. list has the other actions of the nodes; nil
// means the built-in ones.
func actionsConfig(out *terminal.Outside, path string, list []actions.Action) actionfile.Config {
	config := actionfile.Config{Path: path, Lookup: out.Lookup, Agent: "Posta/" + version()}
	for _, action := range orBuiltin(list) {
		config.Taken = append(config.Taken, action.Name)
	}
	return config
}

func orBuiltin(list []actions.Action) []actions.Action {
	if len(list) == 0 {
		return actions.Builtin()
	}
	return list
}

// problemLine is a problem of a file in the output of --json.
type problemLine struct {
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"` // none: the problem is the whole file
	Error string `json:"error"`
}

// actionsFailure returns the error of an actions file. It prints one line for each problem: of JSON to stdout, or of text
// to stderr.
func actionsFailure(out *terminal.Outside, err error, asJSON bool) error {
	var problems *actionfile.Problems
	if !errors.As(err, &problems) {
		return fail(exitConfig, "", "%w", err)
	}
	if asJSON {
		lines := make([]problemLine, len(problems.List))
		for i, p := range problems.List {
			lines[i] = problemLine{problems.Path, p.Line, p.Text}
		}
		if err := printLines(out.Stdout, lines); err != nil {
			return err
		}
		return alreadyPrinted(exitConfig)
	}
	for _, line := range strings.Split(problems.Error(), "\n") {
		out.Talk("posta: error: %s", line)
	}
	out.Talk("posta: hint: `%s actions --help` shows what a file looks like", out.Self())
	return alreadyPrinted(exitConfig)
}

// actionsFile is the actions file of a server. It is watched while the server runs.
type actionsFile struct {
	file   *actionfile.File // nil: there is none
	logger *slog.Logger
	own    []actions.Action // the other actions of the nodes

	supervisor *child.Supervisor // nil before the workers start
	programs   []child.Program   // of --worker

	watching sync.WaitGroup
	stop     context.CancelFunc
}

// openActions reads the actions file of a server, if it has one.
func (f *serveFlags) openActions(out *terminal.Outside, logger *slog.Logger) (*actionsFile, error) {
	a := &actionsFile{logger: logger, own: f.actions, stop: func() {}}
	path := f.actionsPath
	if path == defaultActions && !f.cmd.Flags().Changed("actions") {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return a, nil
		}
	}
	if path == "" {
		return a, nil
	}
	file, err := actionfile.Open(actionsConfig(out, path, f.actions))
	if err != nil {
		return nil, actionsFailure(out, err, false)
	}
	a.file = file
	var names []string
	for _, d := range file.Definitions() {
		names = append(names, d.Name)
	}
	logger.Info("actions of a file are served", "file", path, "actions", strings.Join(names, " "))
	return a, nil
}

// list returns the actions of nodes at their start; nil means the built-in ones.
func (a *actionsFile) list() []actions.Action {
	if a.file == nil {
		return a.own
	}
	return a.with(a.file.Actions())
}

func (a *actionsFile) with(list []actions.Action) []actions.Action {
	return append(slices.Clone(orBuiltin(a.own)), list...)
}

// watch passes the actions of the file to nodes whenever it changes, and at SIGHUP. Without a file SIGHUP does nothing.
func (a *actionsFile) watch(nodes ...*node.Node) {
	if a.file == nil {
		a.stop = ignoreHangup(a.logger)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	a.watching.Go(func() {
		defer signal.Stop(reload)
		a.file.Watch(ctx, reload, a.logger, func(list []actions.Action, workers []child.Program) error {
			for _, n := range nodes {
				if err := n.SetActions(a.with(list)...); err != nil {
					return err
				}
			}
			a.setWorkers(workers)
			return nil
		})
	})
}

// close ends the watch and kills the programs that still run.
func (a *actionsFile) close() {
	a.stop()
	a.watching.Wait()
	if a.file != nil {
		a.file.Close()
	}
}
