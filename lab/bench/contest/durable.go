// Package contest measures durable tasks. It compares Posta with other systems that keep tasks, and with itself
// while a million tasks wait. It starts and ends the systems. Package tasks sends tasks to Posta, and the module
// bench/peers to the others.
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

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

// durableOptions has the flags of `bench durable`.
type durableOptions struct {
	rounds int
	round  time.Duration
	steady time.Duration // one measurement of latency
	backlog,
	little int // waiting tasks: many and few
	pass  int // tasks that pass through a cluster while its tables are weighed
	only  []string
	asked []string // peers
	json  bool
	posta string
	limit time.Duration
}

// Kind says what a run compares: systems on the disk of one machine, or clusters.
type Kind struct {
	verb  string
	parts []durablePart
	peers []peerKind
	own   []func(*durableBench, context.Context) (*contender, error) // ways to run Posta
	goals goals
	limit time.Duration
	// clocks says when the measured time of a task ends.
	clocks string
}

// goal is the goal of the first way to run Posta. A zero field is no goal.
type goal struct {
	rate  float64 // tasks/s
	over  string  // the peer that ratio is to
	ratio float64
}

// goals of the first way to run Posta.
type goals struct {
	calls, piped, accepted goal
	p50, p99               float64 // ms; 0: none
}

// Durable compares Posta on SQLite with other systems that keep tasks on one machine.
func Durable() Kind {
	return Kind{
		verb: "durable", parts: durableParts(), peers: peerKinds(), limit: 15 * time.Minute,
		own:    []func(*durableBench, context.Context) (*contender, error){(*durableBench).oneNode, (*durableBench).threeNodes},
		goals:  goals{calls: goal{rate: 12_000}, piped: goal{rate: 20_000}, accepted: goal{rate: 40_000}, p50: 2, p99: 5},
		clocks: "For Posta the time ends when the client has read the final record, and for beanstalkd when the worker has the answer to its deletion. For the others it ends when the action has run, before the end is recorded.",
	}
}

// durableBench is one run.
type durableBench struct {
	Kind
	durableOptions
	lab *lab.Lab
	// group has all systems that are compared. The first is one Posta node, or one cluster.
	group   []*contender
	cluster *cluster // nil before it is started
	// peerDB and peerBroker are the servers of other systems, once started.
	peerDB, peerBroker lab.Server
	// absent has the reasons why peers are left out.
	absent []string
}

// durablePart measures one thing and returns its tables.
type durablePart struct {
	name string
	run  func(*durableBench, context.Context) ([]report.Section, error)
}

func durableParts() []durablePart {
	return []durablePart{
		{"rate", (*durableBench).rate},
		{"accept", (*durableBench).acceptOnly},
		{"delete", (*durableBench).acceptAndDelete},
		{"latency", (*durableBench).latency},
		{"million", (*durableBench).million},
	}
}

func (k *Kind) partNames() []string {
	var names []string
	for _, p := range k.parts {
		names = append(names, p.name)
	}
	return names
}

// Run measures durable tasks and prints the tables. If a part fails, the others are still measured and printed.
func Run(ctx context.Context, kind Kind, args []string, stdout, stderr io.Writer) error {
	opt, err := kind.parse(args, stderr)
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
	b := &durableBench{Kind: kind, durableOptions: opt, lab: programs}
	out := report.Report{Machine: lab.ThisMachine(), Began: time.Now(), Subject: "posta", Rounds: opt.rounds, Measured: opt.round}
	var failures error
	for _, p := range kind.parts {
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
	if failures != nil {
		programs.Quote()
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

func (k *Kind) parse(args []string, stderr io.Writer) (durableOptions, error) {
	var o durableOptions
	var quick bool
	var only, peers string
	flags := flag.NewFlagSet("bench "+k.verb, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 5, "how often every system is measured, in turn")
	flags.DurationVar(&o.round, "round", 1200*time.Millisecond, "how long tasks are enqueued in each round; it ends when they are recorded")
	flags.DurationVar(&o.steady, "steady", 3*time.Second, "how long each measurement of latency takes")
	flags.IntVar(&o.backlog, "backlog", 1_000_000, "waiting tasks that rates, memory and start are measured with")
	flags.IntVar(&o.little, "little", 1_000, "waiting tasks that they are compared with")
	flags.IntVar(&o.pass, "pass", 10_000_000, "tasks that pass through the tables of a cluster")
	flags.StringVar(&only, "only", "", "parts to measure, comma-separated: "+strings.Join(k.partNames(), ", ")+" (default all)")
	flags.StringVar(&peers, "peers", strings.Join(k.peerNames(), ","), "peers to measure beside Posta, comma-separated, or none")
	flags.BoolVar(&o.json, "json", false, "print JSON with every round instead of tables")
	flags.StringVar(&o.posta, "posta", "", "a posta binary to measure (default: built from the tree)")
	flags.DurationVar(&o.limit, "limit", k.limit, "the whole run ends after this time at the latest")
	flags.BoolVar(&quick, "quick", false, "tiny numbers: shows that the harness works, the figures mean nothing")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.rounds, o.round, o.steady, o.backlog, o.little, o.pass = 1, 50*time.Millisecond, 100*time.Millisecond, 2_000, 100, 5_000
	}
	o.only, o.asked = k.partNames(), nil
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	if peers != "none" {
		o.asked = strings.Split(peers, ",")
	}
	return o, k.validate(&o, flags.Args())
}

func (k *Kind) validate(o *durableOptions, rest []string) error {
	for _, name := range o.only {
		if !slices.Contains(k.partNames(), name) {
			return fmt.Errorf("--only: there is no part %q, only %s", name, strings.Join(k.partNames(), ", "))
		}
	}
	for _, name := range o.asked {
		if !slices.Contains(k.peerNames(), name) {
			return fmt.Errorf("--peers: there is no peer %q, only %s", name, strings.Join(k.peerNames(), ", "))
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
