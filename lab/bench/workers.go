package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

const (
	verbWorkers  = "workers"
	workersReady = "ready"
	// workerAction answers like upper. Nodes do not have it, so workers run it.
	workerAction = "shout"
	workerSlots  = 64
	fleetSlots   = 4
	// The goals of direct runs through workers: tasks per second of one Go worker, the part of that rate that remains with a
	// fleet, and the memory of a worker on its node in KiB.
	workerGoal, fleetGoal, workerMemoryGoal = 150_000, 0.90, 20
	// workerLatencyGoal is how much longer a run through a worker may take than the built-in action, in microseconds (p50).
	workerLatencyGoal = 300
	pollWorkers       = 10 * time.Millisecond
)

// runWorkers connects Go workers to a node, prints "ready", and runs what the node pushes until its input ends.
func runWorkers(ctx context.Context, args []string, s streams) error {
	flags := flag.NewFlagSet(verbWorkers, flag.ContinueOnError)
	flags.SetOutput(s.err)
	to := flags.String("to", "", "address of the node")
	count := flags.Int("count", 1, "how many workers")
	slots := flags.Int("slots", workerSlots, "slots of each worker")
	library := flags.String("python", "", "directory of the library for Python: run one worker in Python")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *library != "" {
		return becomePython(*library, *to, *slots)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shout := actions.Action{Name: workerAction, Quick: true, Run: func(context.Context, *actions.Call) (any, error) { return "HOLA", nil }}
	var group sync.WaitGroup
	failed := make(chan error, *count)
	for range *count {
		group.Go(func() { failed <- client.Worker{Addr: *to, Slots: *slots, Actions: []actions.Action{shout}}.Run(ctx) })
	}
	for connected := 0; connected < *count; {
		select {
		case err := <-failed:
			return errors.Join(errors.New("a worker has ended"), err)
		default:
		}
		var err error
		if connected, err = connectedWorkers(ctx, *to, workerAction); err != nil {
			return err
		}
		if err := pause(ctx, pollWorkers); err != nil {
			return err
		}
	}
	fmt.Fprintln(s.out, workersReady)
	_, err := io.Copy(io.Discard, s.in)
	stop()
	group.Wait()
	return err
}

// pythonAction is workerAction in Python, and pythonWorker a worker that has it. Its arguments are those of becomePython.
const (
	pythonAction = "shout.py"
	pythonWorker = `
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it dies with the benchmark
sys.path.insert(0, sys.argv[1])
from posta import Posta
app = Posta(sys.argv[2])
@app.action(name="` + pythonAction + `")
async def shout(text):
    return "HOLA"
app.work(slots=int(sys.argv[3]))
`
)

// becomePython replaces this process by a worker in Python.
func becomePython(library, to string, slots int) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return err
	}
	return syscall.Exec(python, []string{python, "-c", pythonWorker, library, to, fmt.Sprint(slots)}, os.Environ())
}

// connectedWorkers returns how many workers of a node have an action.
func connectedWorkers(ctx context.Context, addr, action string) (n int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/workers", http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var list struct{ Workers []struct{ Actions []string } }
	err = json.NewDecoder(answer.Body).Decode(&list)
	for _, w := range list.Workers {
		if slices.Contains(w.Actions, action) {
			n++
		}
	}
	return n, err
}

// startWorkers starts a process with a number of workers.
func (b *bench) startWorkers(ctx context.Context, addr string, count, slots int) error {
	p, err := b.lab.StartSelf(ctx, verbWorkers, "--to", addr, "--count", fmt.Sprint(count), "--slots", fmt.Sprint(slots))
	if err != nil {
		return err
	}
	line, err := b.lab.Line(p)
	if err == nil && line != workersReady {
		err = fmt.Errorf("%s said %q", verbWorkers, line)
	}
	return err
}

// workerRow is one shape of load on a built-in action, on one worker with workerSlots, and on a fleet with fleetSlots each.
type workerRow struct {
	Shape    load.Shape    `json:"shape"`
	BuiltIn  []load.Sample `json:"built_in"`
	Worker   []load.Sample `json:"worker"`
	Fleet    []load.Sample `json:"fleet"`
	Ratio    report.Spread `json:"ratio"`       // worker ÷ built-in
	OfWorker report.Spread `json:"fleet_ratio"` // fleet ÷ worker
}

// workers measures direct runs through workers, beside the built-in action on the same node, and the memory of a fleet of
// workers.
func (b *bench) workers(ctx context.Context) (report.Section, error) {
	if b.against == verbBare {
		return report.Section{}, errors.New("the bare server has no workers")
	}
	one, builtIn, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	if err := b.startWorkers(ctx, one.Addr, 1, workerSlots); err != nil {
		return report.Section{}, err
	}
	many, fleet, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	before, err := b.settledMemory(ctx, many.Pid())
	if err != nil {
		return report.Section{}, err
	}
	if err := b.startWorkers(ctx, many.Addr, b.fleet, fleetSlots); err != nil {
		return report.Section{}, err
	}
	after, err := b.settledMemory(ctx, many.Pid())
	if err != nil {
		return report.Section{}, err
	}
	worker := builtIn
	worker.Action, fleet.Action = workerAction, workerAction
	var data []workerRow
	for _, s := range append(load.Shapes(1), load.Shapes(16)...) {
		b.lab.Say("  %v", s)
		samples, err := b.interleave(ctx, s, builtIn, worker, fleet)
		if err != nil {
			return report.Section{}, err
		}
		data = append(data, workerRow{
			Shape: s, BuiltIn: samples[0], Worker: samples[1], Fleet: samples[2],
			Ratio: report.SpreadOf(ratios(samples[1], samples[0])), OfWorker: report.SpreadOf(ratios(samples[2], samples[1])),
		})
	}
	return workerSection(data, b.fleet, float64(after-before)/float64(b.fleet)), nil
}

func workerSection(data []workerRow, fleet int, each float64) report.Section {
	many := fmt.Sprintf("%s workers of %d slots", report.Thousands(float64(fleet)), fleetSlots)
	out := report.Section{
		Title: fmt.Sprintf("Direct runs through Go workers, connections × depth, tasks/s: the built-in `upper`, one worker of %d slots, and %s", workerSlots, many),
		Head:  []string{"load", "built-in", "one worker", "worker ÷ built-in", "fleet", "fleet ÷ worker", "µs p50/p99, built-in", "one worker", "p50 more, µs"},
		Notes: []string{
			fmt.Sprintf("%s take %.1f KiB of resident memory each on their node (goal < %d). Goals: one worker at 1 × 128 %s tasks/s; fleet ÷ worker %.2f; p50 at depth 1 at most %d µs more.",
				many, each/1024, workerMemoryGoal, report.Thousands(workerGoal), fleetGoal, workerLatencyGoal),
			"The workers of the fleet are in one process, which shares the cores with the node and the load.",
		},
		Data: data,
	}
	p50 := func(s load.Sample) float64 { return s.P50 }
	for _, r := range data {
		more := "–"
		if r.Shape.Depth == 1 {
			more = fmt.Sprintf("%.0f", report.SpreadOf(pick(r.Worker, p50)).Median-report.SpreadOf(pick(r.BuiltIn, p50)).Median)
		}
		out.Rows = append(out.Rows, []string{
			r.Shape.String(), report.SpreadOf(rates(r.BuiltIn)).Count(), report.SpreadOf(rates(r.Worker)).Count(), r.Ratio.Decimals(),
			report.SpreadOf(rates(r.Fleet)).Count(), r.OfWorker.Against(fleetGoal), latencies(r.BuiltIn), latencies(r.Worker), more,
		})
	}
	return out
}

// The goals of durable tasks: the part of the rate of the built-in action that a Go worker reaches, and the tasks per second of
// a worker in Python.
const (
	workedGoal       = 0.75
	workedPythonGoal = 8_000
)

// startPython starts a worker in Python and waits until it is connected. It returns lab.ErrMissing without Python.
func (b *bench) startPython(ctx context.Context, addr string) error {
	if _, err := exec.LookPath("python3"); err != nil {
		return lab.ErrMissing
	}
	root, err := testenv.FindRoot()
	if err != nil {
		return lab.ErrMissing
	}
	p, err := b.lab.StartSelf(ctx, verbWorkers, "--to", addr, "--slots", fmt.Sprint(workerSlots), "--python", filepath.Join(root, "sdk", "python"))
	if err != nil {
		return err
	}
	for {
		n, err := connectedWorkers(ctx, addr, pythonAction)
		if err != nil || n > 0 {
			return err
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("the worker in Python has ended:\n%s", p.Output())
		default:
		}
		if err := pause(ctx, pollWorkers); err != nil {
			return err
		}
	}
}

// worked measures durable tasks on one node with SQLite: through the built-in action, a worker in Go, and one in Python.
func (b *bench) worked(ctx context.Context) (report.Section, error) {
	if b.against == verbBare {
		return report.Section{}, errors.New("the bare server has no durable tasks")
	}
	dir, err := b.lab.Dir("worked")
	if err != nil {
		return report.Section{}, err
	}
	node, err := b.lab.Keeper(ctx, dir)
	if err == nil {
		err = b.lab.Served(ctx, node)
	}
	if err != nil {
		return report.Section{}, err
	}
	if err := b.startWorkers(ctx, node.Addr, 1, workerSlots); err != nil {
		return report.Section{}, err
	}
	subjects := []string{"", workerAction, pythonAction}
	if err := b.startPython(ctx, node.Addr); errors.Is(err, lab.ErrMissing) {
		subjects = subjects[:2]
	} else if err != nil {
		return report.Section{}, err
	}
	to := tasks.Target{Addrs: []string{node.Addr}, PIDs: []int{node.Pid()}}
	samples := make([][]tasks.Sample, 3)
	for range b.rounds {
		for i, action := range subjects {
			one, err := tasks.Measure(ctx, to, tasks.Round{
				Shape: load.Shape{Connections: 16, Depth: 128}, Queue: tasks.Worked, Action: action, For: b.timing.Measured, Keep: 600,
			})
			if err != nil {
				return report.Section{}, fmt.Errorf("action %q: %w", action, err)
			}
			samples[i] = append(samples[i], one)
		}
	}
	return workedSection(samples), nil
}

// workedSection has one row for each way to run the tasks.
func workedSection(samples [][]tasks.Sample) report.Section {
	out := report.Section{
		Title: fmt.Sprintf("Durable tasks through workers of %d slots, 16 × 128, one node with SQLite, tasks/s", workerSlots),
		Head:  []string{"run by", "rate", "÷ built-in"},
		Notes: []string{fmt.Sprintf("Enqueued, run and recorded. The goal of the worker in Python is %s tasks/s.", report.Thousands(workedPythonGoal))},
		Data:  samples,
	}
	rate := func(i int) (list []float64) {
		for _, s := range samples[i] {
			list = append(list, s.Rate)
		}
		return list
	}
	builtIn := rate(0)
	for i, name := range []string{"the node (`upper`)", "one worker in Go", "one worker in Python"} {
		if len(samples[i]) == 0 {
			out.Rows = append(out.Rows, []string{name, "not installed", "–"})
			continue
		}
		var parts []float64
		for round, r := range rate(i) {
			parts = append(parts, r/builtIn[round])
		}
		goal := map[int]float64{1: workedGoal}[i]
		out.Rows = append(out.Rows, []string{name, report.SpreadOf(rate(i)).Count(), report.SpreadOf(parts).Against(goal)})
	}
	return out
}
