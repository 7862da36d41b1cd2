// Package contest measures durable tasks: Posta beside other systems that keep tasks, and beside itself with a million
// tasks waiting. The systems are started and ended here; what is put on them is in bench/tasks, and for others in
// the module bench/peers.
package contest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/bench/lab"
	"github.com/posta-tasks/posta/bench/load"
	"github.com/posta-tasks/posta/bench/report"
)

// durableOptions is what the flags of `bench durable` say.
type durableOptions struct {
	rounds int
	round  time.Duration
	steady time.Duration // one measurement of latency
	backlog,
	little int // waiting tasks: many and few
	only  []string
	peers []string
	json  bool
	posta string
	limit time.Duration
}

// durableBench is one run.
type durableBench struct {
	durableOptions
	lab *lab.Lab
	// group is all systems that are compared; the first is one Posta node.
	group []*contender
	// absent says why peers are left out.
	absent []string
}

// durablePart measures one thing and makes tables of it.
type durablePart struct {
	name string
	run  func(*durableBench, context.Context) ([]report.Section, error)
}

func durableParts() []durablePart {
	return []durablePart{
		{"rate", (*durableBench).rate},
		{"accept", (*durableBench).accept},
		{"latency", (*durableBench).latency},
		{"million", (*durableBench).million},
	}
}

func durablePartNames() []string {
	var names []string
	for _, p := range durableParts() {
		names = append(names, p.name)
	}
	return names
}

// Run measures durable tasks and prints the tables. A part that fails does not keep the others from being
// measured and printed.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opt, err := parseDurable(args, stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opt.limit)
	defer cancel()
	programs, err := lab.New(stderr)
	if err != nil {
		return err
	}
	defer programs.Close()
	if err := programs.Build(ctx, opt.posta); err != nil {
		return err
	}
	b := &durableBench{durableOptions: opt, lab: programs}
	out := report.Report{Machine: lab.ThisMachine(), Began: time.Now(), Subject: "posta", Rounds: opt.rounds, Measured: opt.round}
	var failures error
	for _, p := range durableParts() {
		if !slices.Contains(opt.only, p.name) {
			continue
		}
		programs.Say("measuring %s", p.name)
		tables, err := p.run(b, ctx)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", p.name, err))
		}
		for _, t := range tables {
			t.Name = p.name
			out.Sections = append(out.Sections, t)
		}
	}
	programs.EndAll()
	out.Took = time.Since(out.Began)
	if opt.json {
		return errors.Join(failures, out.WriteJSON(stdout))
	}
	out.WriteText(stdout)
	for _, why := range b.absent {
		fmt.Fprintf(stdout, "\nLeft out: %s\n", why)
	}
	return failures
}

func parseDurable(args []string, stderr io.Writer) (durableOptions, error) {
	var o durableOptions
	var quick bool
	var only, peers string
	flags := flag.NewFlagSet("bench durable", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 5, "how often every system is measured, in turn")
	flags.DurationVar(&o.round, "round", 1200*time.Millisecond, "how long tasks are enqueued in each round; it ends when they are recorded")
	flags.DurationVar(&o.steady, "steady", 3*time.Second, "how long each measurement of latency takes")
	flags.IntVar(&o.backlog, "backlog", 1_000_000, "waiting tasks that rates, memory and start are measured with")
	flags.IntVar(&o.little, "little", 1_000, "waiting tasks that they are compared with")
	flags.StringVar(&only, "only", "", "parts to measure, comma-separated: "+strings.Join(durablePartNames(), ", ")+" (default all)")
	flags.StringVar(&peers, "peers", strings.Join(peerNames(), ","), "peers to measure beside Posta, comma-separated, or none")
	flags.BoolVar(&o.json, "json", false, "print JSON with every round instead of tables")
	flags.StringVar(&o.posta, "posta", "", "a posta binary to measure (default: built from the tree)")
	flags.DurationVar(&o.limit, "limit", 15*time.Minute, "the whole run ends after this time at the latest")
	flags.BoolVar(&quick, "quick", false, "tiny numbers: shows that the harness works, the figures mean nothing")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.rounds, o.round, o.steady, o.backlog, o.little = 1, 50*time.Millisecond, 100*time.Millisecond, 2_000, 100
	}
	o.only, o.peers = durablePartNames(), nil
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	if peers != "none" {
		o.peers = strings.Split(peers, ",")
	}
	return o, o.validate(flags.Args())
}

func (o *durableOptions) validate(rest []string) error {
	for _, name := range o.only {
		if !slices.Contains(durablePartNames(), name) {
			return fmt.Errorf("--only: there is no part %q, only %s", name, strings.Join(durablePartNames(), ", "))
		}
	}
	for _, name := range o.peers {
		if !slices.Contains(peerNames(), name) {
			return fmt.Errorf("--peers: there is no peer %q, only %s", name, strings.Join(peerNames(), ", "))
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.rounds < 1 || o.round <= 0 || o.steady <= 0:
		return errors.New("--rounds, --round and --steady must be positive")
	case o.backlog < workedShape.Connections || o.little < workedShape.Connections:
		return fmt.Errorf("--backlog and --little must be at least %d", workedShape.Connections)
	}
	return nil
}

// workedShape is the load of pipelined tasks, and callShape that of one task a call.
var (
	workedShape = load.Shape{Connections: 16, Depth: 128}
	callShape   = load.Shape{Connections: 16, Depth: 1}
)
