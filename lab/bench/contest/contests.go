package contest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/report"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

const (
	// keepLong keeps finished tasks, in seconds, for longer than the run.
	keepLong = 3600
	// maxKeep is how long the tasks of a round may take to run, if they are to be deleted during the next.
	maxKeep    = time.Minute
	steadyRate = 200
)

// standing has the rounds of one system.
type standing struct {
	Name    string         `json:"name"`
	Safe    string         `json:"safe"`
	Samples []tasks.Sample `json:"samples"`
	Ratio   report.Spread  `json:"ratio"` // rates of the first system divided by those of this one, round by round
}

// contest measures all systems in turn, round by round.
func (b *durableBench) contest(ctx context.Context, group []*contender, do func(context.Context, *contender) (tasks.Sample, error)) ([]standing, error) {
	out := make([]standing, len(group))
	for range b.rounds {
		for i, c := range group {
			one, err := do(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			out[i].Name, out[i].Safe = c.name, c.safe
			out[i].Samples = append(out[i].Samples, one)
		}
	}
	for i := range out {
		out[i].Ratio = report.SpreadOf(tempo(out[0].Samples, out[i].Samples))
	}
	return out, nil
}

// tempo divides rates round by round.
func tempo(over, under []tasks.Sample) []float64 {
	var out []float64
	for i := range min(len(over), len(under)) {
		out = append(out, over[i].Rate/under[i].Rate)
	}
	return out
}

func figures(samples []tasks.Sample, figure func(tasks.Sample) float64) report.Spread {
	var out []float64
	for _, s := range samples {
		out = append(out, figure(s))
	}
	return report.SpreadOf(out)
}

func taskRate(s tasks.Sample) float64 { return s.Rate }
func taskCPU(s tasks.Sample) float64  { return s.CPU }

// rate compares how many tasks are enqueued, worked and recorded a second.
func (b *durableBench) rate(ctx context.Context) ([]report.Section, error) {
	group, err := b.contenders(ctx)
	if err != nil {
		return nil, err
	}
	calls, err := b.contest(ctx, group, func(ctx context.Context, c *contender) (tasks.Sample, error) {
		return c.measure(ctx, tasks.Round{Shape: callShape, Queue: tasks.Worked, For: b.round, Keep: keepLong})
	})
	if err != nil {
		return nil, err
	}
	out := []report.Section{contestSection("16 producers, one task a call: enqueued, worked and recorded, tasks/s", calls, b.goals.calls)}
	piped, err := b.contest(ctx, inBulk(group), func(ctx context.Context, c *contender) (tasks.Sample, error) {
		return c.measure(ctx, tasks.Round{Shape: workedShape, Queue: tasks.Worked, For: b.round, Keep: keepLong})
	})
	if err != nil {
		return out, err
	}
	return append(out, contestSection("16 producers, 128 tasks at once (pipelined, or in one call): enqueued, worked and recorded, tasks/s", piped, b.goals.piped)), nil
}

func inBulk(group []*contender) []*contender {
	var out []*contender
	for _, c := range group {
		if c.bulk {
			out = append(out, c)
		}
	}
	return out
}

// contestSection returns a table of standings. The goal is that of the first system.
func contestSection(title string, data []standing, want goal) report.Section {
	out := report.Section{
		Title: title, Data: data,
		Head:  []string{"system", "an acknowledged task survives", "tasks/s", data[0].Name + " ÷ it", "CPU µs/task"},
		Notes: []string{"The CPU time is that of server, workers and generator together."},
	}
	for i, s := range data {
		rate := figures(s.Samples, taskRate)
		text, ratio := rate.Count(), s.Ratio.Decimals()
		switch {
		case i == 0 && want.rate > 0:
			text, ratio = reach(text, rate.Median >= want.rate, report.Thousands(want.rate)), "1"
		case i == 0:
			ratio = "1"
		case s.Name == want.over:
			ratio = s.Ratio.Against(want.ratio)
		}
		out.Rows = append(out.Rows, []string{s.Name, s.Safe, text, ratio, figures(s.Samples, taskCPU).Fine()})
	}
	return out
}

// reach appends the goal, and whether it is reached.
func reach(text string, reached bool, goal string) string {
	verdict := "reached"
	if !reached {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s, goal %s %s", text, goal, verdict)
}

// acceptOnly compares how many tasks are enqueued a second while none runs.
func (b *durableBench) acceptOnly(ctx context.Context) ([]report.Section, error) {
	group, err := b.contenders(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := b.contest(ctx, inBulk(group), b.accepted)
	if err != nil {
		return nil, err
	}
	return []report.Section{contestSection("16 producers, 128 tasks at once: enqueued only, tasks/s", plain, b.goals.accepted)}, nil
}

func (b *durableBench) accepted(ctx context.Context, c *contender) (tasks.Sample, error) {
	return c.measure(ctx, tasks.Round{Shape: workedShape, Queue: tasks.Backlog, For: b.round, Keep: keepLong})
}

// deletion is one round with deletion.
type deletion struct {
	Sample   tasks.Sample `json:"sample"`
	Finished int          `json:"finished"` // tasks whose keep ends during the measurement
	Left     int          `json:"left"`     // how many of them were not deleted at its end
}

// acceptAndDelete enqueues on a separate node while the keep of finished tasks ends.
func (b *durableBench) acceptAndDelete(ctx context.Context) ([]report.Section, error) {
	out := report.Section{
		Title: "Posta, one node: enqueued only while finished tasks are deleted, tasks/s",
		Head:  []string{"tasks/s", "CPU µs/task", "deleted meanwhile", "a second"},
		Notes: []string{"Before each round, as many tasks as fit into a round were run, with a `keep` that ended when the round began. The tasks that were not listed any more at the end of the round were deleted during it."},
	}
	p, err := b.keeper(ctx, "deleting")
	if err != nil {
		return nil, err
	}
	defer b.lab.End(p)
	var data []deletion
	keep := 2*b.round + time.Second
	for len(data) < b.rounds {
		one, err := b.deletingRound(ctx, p, keep)
		switch {
		case errors.Is(err, errTooLate) && keep < maxKeep:
			keep *= 2
		case err != nil:
			return nil, err
		default:
			data = append(data, one)
		}
	}
	out.Data = data
	var samples []tasks.Sample
	var gone, speed []float64
	for _, d := range data {
		samples = append(samples, d.Sample)
		gone = append(gone, float64(d.Finished-d.Left))
		speed = append(speed, float64(d.Finished-d.Left)/d.Sample.Took.Seconds())
	}
	rate := figures(samples, taskRate)
	out.Rows = [][]string{{
		reach(rate.Count(), rate.Median >= 40_000, report.Thousands(40_000)), figures(samples, taskCPU).Fine(),
		report.SpreadOf(gone).Count(), report.SpreadOf(speed).Count(),
	}}
	return []report.Section{out}, nil
}

// errTooLate says that the tasks took longer to run than they were kept.
var errTooLate = errors.New("some of the tasks that were to be deleted during the round are deleted already")

// deletingRound runs tasks with a short keep, waits for its end, and measures while they are deleted.
func (b *durableBench) deletingRound(ctx context.Context, p *lab.Process, keep time.Duration) (deletion, error) {
	c := postaContender("", targetOfPosta(p))
	end := time.Now().Add(keep)
	before, err := c.measure(ctx, tasks.Round{Shape: workedShape, Queue: tasks.Worked, For: b.round, Keep: keep.Seconds(), Unread: true})
	if err != nil {
		return deletion{}, err
	}
	if time.Now().After(end) {
		return deletion{}, fmt.Errorf("%d tasks, kept for %v: %w", before.Tasks, keep, errTooLate)
	}
	select {
	case <-time.After(time.Until(end)):
	case <-ctx.Done():
		return deletion{}, ctx.Err()
	}
	sample, err := b.accepted(ctx, c)
	if err != nil {
		return deletion{}, err
	}
	control, err := tasks.Open(ctx, p.Addr)
	if err != nil {
		return deletion{}, err
	}
	defer control.Close()
	left, err := control.Done(tasks.Worked)
	if err != nil {
		return deletion{}, err
	}
	return deletion{Sample: sample, Finished: before.Tasks, Left: left}, control.Gone(ctx, tasks.Worked)
}

// latency compares the time from enqueueing a task to its result, at a low rate.
func (b *durableBench) latency(ctx context.Context) ([]report.Section, error) {
	group, err := b.contenders(ctx)
	if err != nil {
		return nil, err
	}
	data, err := b.contest(ctx, group, func(ctx context.Context, c *contender) (tasks.Sample, error) {
		return c.steady(ctx, steadyRate, b.steady)
	})
	if err != nil {
		return nil, err
	}
	out := report.Section{
		Title: fmt.Sprintf("Enqueue to done at %d tasks/s, ms", steadyRate),
		Head:  []string{"system", "an acknowledged task survives", "p50", "p99", "CPU µs/task"},
		Notes: []string{b.clocks},
		Data:  data,
	}
	for i, s := range data {
		p50 := figures(s.Samples, func(s tasks.Sample) float64 { return s.P50 / 1000 })
		p99 := figures(s.Samples, func(s tasks.Sample) float64 { return s.P99 / 1000 })
		row := []string{s.Name, s.Safe, p50.Decimals(), p99.Decimals(), figures(s.Samples, taskCPU).Whole()}
		if want := b.goals.p50; i == 0 && want > 0 {
			row[2] = reach(row[2], p50.Median <= want, fmt.Sprint(want))
		}
		if want := b.goals.p99; i == 0 && want > 0 {
			row[3] = reach(row[3], p99.Median <= want, fmt.Sprint(want))
		}
		out.Rows = append(out.Rows, row)
	}
	return []report.Section{out}, nil
}
