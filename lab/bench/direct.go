package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

// options has the flags of `bench direct`.
type options struct {
	rounds  int
	timing  load.Timing
	only    []string
	json    bool
	posta   string
	against string
	// idle and beside are numbers of idle connections: for the measurement of memory, and in addition to a load.
	idle, beside int
	// settle is the wait before memory is read, for the garbage collector of the server.
	settle time.Duration
	// fleet is how many workers are connected beside the load.
	fleet int
	// burst is how many tasks are pipelined at once in the measurement of memory.
	burst int
	// limit is the timeout of the whole run.
	limit time.Duration
}

// bench is one run: its options and processes.
type bench struct {
	options
	lab *lab.Lab
}

// part measures one thing and returns its table.
type part struct {
	name string
	run  func(*bench, context.Context) (report.Section, error)
}

func parts() []part {
	return []part{
		{"rate", (*bench).rate},
		{"balanced", (*bench).balanced},
		{"idle", (*bench).idleMemory},
		{"beside", (*bench).besideIdle},
		{"memory", (*bench).pipelinedMemory},
		{"workers", (*bench).workers},
		{"worked", (*bench).worked},
	}
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// runDirect measures the direct path and prints the tables. If a part fails, the others are still measured and
// printed.
func runDirect(ctx context.Context, args []string, s streams) error {
	opt, err := parseOptions(args, s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opt.limit)
	defer cancel()
	programs, err := lab.New(s.err)
	if err != nil {
		return err
	}
	defer programs.Close()
	if err := programs.Build(ctx, opt.posta); err != nil {
		return err
	}
	b := &bench{options: opt, lab: programs}
	out := report.Report{
		Machine: lab.ThisMachine(), Began: time.Now(),
		Subject: opt.against, Rounds: opt.rounds, Measured: opt.timing.Measured,
	}
	if opt.against == verbBare {
		out.Note = "A trial of the harness: all that is called Posta below is a second bare server, so every ratio should be 1."
	}
	var failures error
	for _, p := range parts() {
		if !slices.Contains(opt.only, p.name) {
			continue
		}
		programs.Say("measuring %s", p.name)
		table, err := p.run(b, ctx)
		programs.EndAll()
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		table.Name = p.name
		out.Sections = append(out.Sections, table)
	}
	out.Took = time.Since(out.Began)
	if opt.json {
		return errors.Join(failures, out.WriteJSON(s.out))
	}
	out.WriteText(s.out)
	return failures
}

func parseOptions(args []string, s streams) (options, error) {
	var o options
	var quick bool
	var only string
	flags := flag.NewFlagSet("bench direct", flag.ContinueOnError)
	flags.SetOutput(s.err)
	flags.IntVar(&o.rounds, "rounds", 5, "how often every subject is measured, in turn")
	flags.DurationVar(&o.timing.Measured, "round", 1200*time.Millisecond, "how long each measurement takes")
	flags.DurationVar(&o.timing.Warmup, "warmup", 200*time.Millisecond, "load before each measurement, not counted")
	flags.StringVar(&only, "only", "", "parts to measure, comma-separated: "+strings.Join(partNames(), ", ")+" (default all)")
	flags.BoolVar(&o.json, "json", false, "print JSON with every round instead of tables")
	flags.StringVar(&o.posta, "posta", "", "a posta binary to measure (default: built from the tree)")
	flags.StringVar(&o.against, "against", "posta", "posta, or bare: the bare server against itself shows the noise of the harness")
	flags.IntVar(&o.idle, "idle", 10_000, "idle connections whose memory is measured")
	flags.IntVar(&o.beside, "beside", 5_000, "idle connections held beside the load")
	flags.IntVar(&o.fleet, "fleet", 1_000, "workers of 4 slots that are connected at once")
	flags.DurationVar(&o.settle, "settle", 5*time.Second, "wait before resident memory is read")
	flags.IntVar(&o.burst, "burst", 10_000, "tasks pipelined at once when memory is watched")
	flags.DurationVar(&o.limit, "limit", 20*time.Minute, "the whole run ends after this time at the latest")
	flags.BoolVar(&quick, "quick", false, "tiny numbers: shows that the harness works, the figures mean nothing")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.rounds, o.timing = 1, load.Timing{Warmup: 10 * time.Millisecond, Measured: 40 * time.Millisecond}
		o.idle, o.beside, o.burst, o.settle = 100, 50, 500, 50*time.Millisecond
		o.fleet = 20
	}
	o.only = partNames()
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	return o, o.validate(flags.Args())
}

func (o *options) validate(rest []string) error {
	for _, name := range o.only {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("--only: there is no part %q, only %s", name, strings.Join(partNames(), ", "))
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.against != "posta" && o.against != verbBare:
		return fmt.Errorf("--against is posta or bare, not %q", o.against)
	case o.rounds < 1 || o.timing.Measured <= 0 || o.timing.Warmup < 0:
		return errors.New("--rounds and --round must be positive")
	case o.idle < 1 || o.beside < 1 || o.burst < 1 || o.fleet < 1:
		return errors.New("--idle, --beside, --burst and --fleet must be positive")
	}
	return nil
}

// subject starts the server that is compared with the bare server: a Posta node, or another bare server.
func (b *bench) subject(ctx context.Context) (*lab.Process, load.Target, error) {
	if b.against == verbBare {
		p, err := b.bare(ctx)
		return p, targetOf(p, true), err
	}
	p, err := b.lab.Node(ctx)
	if err == nil {
		err = load.Verify(ctx, p.Addr)
	}
	return p, targetOf(p, false), err
}

// bare starts a bare server; args are its flags.
func (b *bench) bare(ctx context.Context, args ...string) (*lab.Process, error) {
	p, err := b.lab.StartSelf(ctx, verbBare, args...)
	if err != nil {
		return nil, err
	}
	if p.Addr, err = b.lab.Line(p); err != nil {
		return nil, err
	}
	return b.lab.Ready(ctx, p, p.Addr)
}

func targetOf(p *lab.Process, constant bool) load.Target {
	if p == nil {
		return load.Target{}
	}
	return load.Target{Addr: p.Addr, PID: p.Pid(), Constant: constant}
}

// interleave measures the targets in turn, round by round: A B C A B C …
func (b *bench) interleave(ctx context.Context, s load.Shape, targets ...load.Target) ([][]load.Sample, error) {
	out := make([][]load.Sample, len(targets))
	for range b.rounds {
		for i, to := range targets {
			one, err := load.Measure(ctx, to, s, b.timing)
			if err != nil {
				return nil, fmt.Errorf("%v on target %d: %w", s, i+1, err)
			}
			out[i] = append(out[i], one)
		}
	}
	return out, nil
}
