package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/task"
)

const (
	// maxWaits is how many open waits a node allows on one connection.
	maxWaits = 1000
	// benchKeep is how many seconds durable tasks of a benchmark are kept.
	benchKeep = 60
)

// benchFlags are the flags of posta bench.
type benchFlags struct {
	connections int
	depth       int
	tasks       int64
	duration    time.Duration
	action      string
	payload     string
	durable     bool
	noWait      bool
	json        bool
}

func newBench(out *terminal.Outside) *cobra.Command {
	f := benchFlags{}
	cmd := &cobra.Command{
		Use:     "bench",
		GroupID: groupSend,
		Short:   "Measure how fast a running system answers",
		Long: `Sends tasks as fast as they are answered, and prints the rate and the percentiles of
the latency. Each of the -c connections keeps -P tasks unanswered. It ends after -n
tasks, or after --duration. The exit code is 1 if a task failed.

With --durable the tasks are enqueued, and the latency is the time from sending a task
to the line that reports its end; with --no-wait, to its acceptance. The tasks are kept
for a minute.

` + payloadHelp,
		Example: `  posta bench
  posta bench -c 16 -P 128 -n 1000000
  posta bench --duration 10s --action fib --payload 1000 --json
  posta bench --durable -c 16 -n 50000
  posta bench --durable --no-wait -c 4 -P 200 -n 500000`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.IntVarP(&f.connections, "connections", "c", 50, "`number` of connections")
	flags.IntVarP(&f.depth, "pipeline", "P", 1, "`number` of unanswered tasks on each connection")
	flags.Int64VarP(&f.tasks, "tasks", "n", 100_000, "total `number` of tasks; with --duration only if it is set")
	flags.Var((*secondsFlag)(&f.duration), "duration", "the longest `time` to send tasks; 0 means no limit")
	flags.StringVar(&f.action, "action", "upper", "the action of the tasks")
	flags.StringVar(&f.payload, "payload", "hola", "the PAYLOAD of the tasks")
	flags.BoolVar(&f.durable, "durable", false, "enqueue durable tasks, and wait until they are finished")
	flags.BoolVar(&f.noWait, "no-wait", false, "with --durable, wait for the acceptance only")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if f.duration > 0 && !cmd.Flags().Changed("tasks") {
			f.tasks = 0
		}
		return bench(cmd.Context(), out, to, f)
	}
	return cmd
}

// check refuses flags that describe no possible measurement.
func (f *benchFlags) check() error {
	switch {
	case f.connections < 1 || f.connections > maxBenchConnections:
		return misuse(fmt.Sprintf("1 to %d are allowed", maxBenchConnections), "-c is %d", f.connections)
	case f.depth < 1 || f.depth > maxBenchDepth:
		return misuse(fmt.Sprintf("1 to %d are allowed", maxBenchDepth), "-P is %d", f.depth)
	case f.noWait && !f.durable:
		return misuse("add --durable", "--no-wait is for durable tasks")
	case f.durable && !f.noWait && f.depth > maxWaits:
		return misuse(fmt.Sprintf("1 to %d are allowed, since a connection may have so many open waits", maxWaits), "-P is %d", f.depth)
	case f.tasks < 1:
		return misuse("at least one task is needed", "-n is %d", f.tasks)
	case f.duration < 0:
		return misuse("say for example 10s", "--duration is %s", f.duration)
	}
	return nil
}

// bench measures and prints the result.
func bench(ctx context.Context, out *terminal.Outside, to *target, f benchFlags) error {
	payload, err := readPayload(out, f.payload)
	if err != nil {
		return err
	}
	requests, err := f.lines(payload)
	if err != nil {
		return err
	}
	l, err := openLoad(ctx, loadConfig{
		Connections: f.connections, Tasks: f.tasks, Duration: f.duration, Lines: requests,
		Dial: func(ctx context.Context) (net.Conn, error) { return to.Dial(ctx) }, Judge: f.judge(to), Lost: to.Lost,
	})
	if err != nil {
		return err
	}
	f.connections = l.Connections()
	start := time.Now()
	bar := terminal.NewProgress(out, false)
	bar.Watch(func() string { return f.progress(l.Done(), time.Since(start)) })
	report, err := l.Run(ctx)
	bar.Stop()
	if err != nil {
		return err
	}
	return f.print(out, to, report)
}

// judge returns the function that recognises the answer to a task.
func (f *benchFlags) judge(to *target) func(line []byte) (id []byte, fault string, err error) {
	switch {
	case f.noWait:
		return to.JudgeAccepted
	case f.durable:
		return to.JudgeEnd
	}
	return to.Judge
}

// kind describes what is measured.
func (f *benchFlags) kind() string {
	switch {
	case f.noWait:
		return "enqueue"
	case f.durable:
		return "enqueue to end"
	}
	return "run"
}

// lines returns the request lines of a connection, one for each task that it keeps unanswered. The id of each is
// its index.
func (f *benchFlags) lines(payload []byte) ([][]byte, error) {
	rest := []byte(`,"action":`)
	if f.durable {
		rest = fmt.Appendf(nil, `,"op":"enqueue","keep":%d,"wait":%t,"action":`, benchKeep, !f.noWait)
	}
	rest = append(rest, task.AppendString(nil, f.action)...)
	rest = append(append(rest, `,"payload":`...), payload...)
	rest = append(rest, "}\n"...)
	list := make([][]byte, f.depth)
	total := 0
	for i := range list {
		list[i] = append(fmt.Appendf(nil, `{"id":%d`, i), rest...)
		total += len(list[i])
	}
	if f.depth > 1 && total > maxBenchBytes {
		return nil, misuse(fmt.Sprintf("the unanswered tasks of a connection may have %d KiB; choose a smaller -P", maxBenchBytes>>10),
			"%d tasks of %d bytes are too much for one connection", f.depth, len(list[0]))
	}
	return list, nil
}

// progress returns the progress line for a terminal.
func (f *benchFlags) progress(done int64, took time.Duration) string {
	text := fmt.Sprintf("%s tasks, %s/s", terminal.Thousands(done), terminal.Thousands(int64(terminal.PerSecond(done, took))))
	if f.tasks == 0 {
		return text
	}
	return terminal.Bar(float64(done)/float64(f.tasks)) + " " + text
}

// print writes the result to stdout.
func (f *benchFlags) print(out *terminal.Outside, to *target, r *loadReport) error {
	var err error
	if f.json {
		err = json.NewEncoder(out.Results()).Encode(f.object(to, r))
	} else {
		_, err = fmt.Fprint(out.Results(), f.table(to, r))
	}
	if err != nil {
		return err
	}
	if r.Failed > 0 {
		return fail(exitFailed, "", "%s of %s tasks failed, the first with: %s", terminal.Thousands(r.Failed), terminal.Thousands(r.Latency.Count()), r.Fault)
	}
	return nil
}

// table returns the result for people.
func (f *benchFlags) table(to *target, r *loadReport) string {
	h := &r.Latency
	text := f.action
	if f.durable {
		text += ", " + f.kind() + ","
	}
	text += fmt.Sprintf(" on %s, %s × %d deep\n", to.Addr, count(f.connections, "connection"), f.depth)
	text += fmt.Sprintf("  tasks    %s in %.2f s, %s failed\n", terminal.Thousands(h.Count()), r.Took.Seconds(), terminal.Thousands(r.Failed))
	text += fmt.Sprintf("  rate     %s tasks/s\n", terminal.Thousands(int64(terminal.PerSecond(h.Count(), r.Took))))
	text += "  latency"
	for _, p := range []float64{50, 90, 99, 99.9} {
		text += fmt.Sprintf("  p%v %s", p, terminal.Milliseconds(h.Percentile(p)))
	}
	return text + fmt.Sprintf("  max %s\n", terminal.Milliseconds(h.Max()))
}

// object returns the result for programs.
func (f *benchFlags) object(to *target, r *loadReport) map[string]any {
	ms := func(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }
	h := &r.Latency
	return map[string]any{
		"to": to.Addr, "kind": f.kind(), "action": f.action, "connections": f.connections, "pipeline": f.depth,
		"tasks": h.Count(), "failed": r.Failed, "seconds": r.Took.Seconds(), "rate": math.Round(terminal.PerSecond(h.Count(), r.Took)),
		"latency_ms": map[string]float64{
			"min": ms(h.Min()), "mean": ms(h.Mean()), "p50": ms(h.Percentile(50)), "p90": ms(h.Percentile(90)),
			"p99": ms(h.Percentile(99)), "p99_9": ms(h.Percentile(99.9)), "max": ms(h.Max()),
		},
	}
}
