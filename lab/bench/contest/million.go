package contest

import (
	"context"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

const memoryGoal = 256 << 20

// flatRow is one load while few and while many tasks wait.
type flatRow struct {
	Load   string         `json:"load"`
	Little []tasks.Sample `json:"little"`
	Many   []tasks.Sample `json:"many"`
	Ratio  report.Spread  `json:"ratio"`
}

// startRow is one start.
type startRow struct {
	After string        `json:"after"`
	Took  time.Duration `json:"took_ns"` // until a new task was enqueued, worked and answered
}

// million compares two nodes, one with few waiting tasks and one with very many. It also measures the memory of the
// second, and restarts it.
func (b *durableBench) million(ctx context.Context) ([]report.Section, error) {
	little, err := b.filled(ctx, "little", b.little)
	if err != nil {
		return nil, err
	}
	defer b.lab.End(little)
	many, err := b.filled(ctx, "many", b.backlog)
	if err != nil {
		return nil, err
	}
	filled, err := load.Memory(many.Pid(), "VmRSS")
	if err != nil {
		return nil, err
	}
	flat, err := b.flat(ctx, targetOfPosta(little), targetOfPosta(many))
	if err != nil {
		return nil, err
	}
	weight, err := b.weight(many, filled)
	if err != nil {
		return []report.Section{flat}, err
	}
	starts, err := b.starts(ctx, many)
	return []report.Section{flat, weight, starts}, err
}

// filled starts a node with a number of waiting tasks in its store.
func (b *durableBench) filled(ctx context.Context, name string, n int) (*lab.Process, error) {
	p, err := b.keeper(ctx, name)
	if err != nil {
		return nil, err
	}
	b.lab.Say("  %d waiting tasks", n)
	return p, tasks.Fill(ctx, targetOfPosta(p), n, tasks.Round{Shape: workedShape, Queue: tasks.Backlog, Keep: keepLong})
}

func (b *durableBench) flat(ctx context.Context, little, many tasks.Target) (report.Section, error) {
	few, lots := report.Thousands(float64(b.little)), report.Thousands(float64(b.backlog))
	out := report.Section{
		Title: "Rates while other tasks wait, tasks/s",
		Head:  []string{"load", few + " waiting", lots + " waiting", "ratio", "CPU µs/task, " + few, lots},
	}
	var data []flatRow
	for _, r := range []struct {
		name  string
		shape load.Shape
		queue string
	}{
		{"one task a call, worked", callShape, tasks.Worked},
		{"128 at once, worked", workedShape, tasks.Worked},
		{"128 at once, enqueued only", workedShape, tasks.Backlog},
	} {
		round := tasks.Round{Shape: r.shape, Queue: r.queue, For: b.round, Keep: keepLong}
		both, err := b.contest(ctx, []*contender{postaContender(few, little), postaContender(lots, many)},
			func(ctx context.Context, c *contender) (tasks.Sample, error) { return c.measure(ctx, round) })
		if err != nil {
			return out, fmt.Errorf("%s: %w", r.name, err)
		}
		row := flatRow{Load: r.name, Little: both[0].Samples, Many: both[1].Samples}
		row.Ratio = report.SpreadOf(tempo(row.Many, row.Little))
		data = append(data, row)
		out.Rows = append(out.Rows, []string{
			row.Load, figures(row.Little, taskRate).Count(), figures(row.Many, taskRate).Count(), row.Ratio.Against(0.8),
			figures(row.Little, taskCPU).Fine(), figures(row.Many, taskCPU).Fine(),
		})
	}
	out.Data = data
	return out, nil
}

// weight is the memory of a node with very many waiting tasks.
func (b *durableBench) weight(p *lab.Process, filled int64) (report.Section, error) {
	out := report.Section{
		Title: "Resident memory with " + report.Thousands(float64(b.backlog)) + " tasks waiting",
		Head:  []string{"when they were enqueued", "after the rates above", "peak"},
	}
	now, err := load.Memory(p.Pid(), "VmRSS")
	if err != nil {
		return out, err
	}
	peak, err := load.Memory(p.Pid(), "VmHWM")
	if err != nil {
		return out, err
	}
	out.Data = map[string]int64{"filled": filled, "after": now, "peak": peak}
	out.Rows = [][]string{{report.Mebibytes(filled), report.Mebibytes(now), reach(report.Mebibytes(peak), peak < memoryGoal, report.Mebibytes(memoryGoal))}}
	return out, nil
}

// starts stops and kills a node, and starts it again after each.
func (b *durableBench) starts(ctx context.Context, p *lab.Process) (report.Section, error) {
	out := report.Section{
		Title: "From the start of the process to the first task enqueued, worked and answered, ms",
		Head:  []string{"waiting tasks", "after", "ms"},
	}
	var data []startRow
	for _, end := range []struct {
		name string
		end  func(*lab.Process) error
	}{
		{"a clean end", b.lab.Quit},
		{"kill -9", func(p *lab.Process) error { b.lab.End(p); return nil }},
	} {
		if err := end.end(p); err != nil {
			return out, err
		}
		dir, err := b.lab.Dir("many")
		if err != nil {
			return out, err
		}
		began := time.Now()
		if p, err = b.lab.Keeper(ctx, dir); err != nil {
			return out, err
		}
		if err := b.lab.Listens(ctx, p); err != nil {
			return out, err
		}
		if err := servedOne(ctx, p.Addr); err != nil {
			return out, err
		}
		row := startRow{After: end.name, Took: time.Since(began)}
		data = append(data, row)
		out.Rows = append(out.Rows, []string{
			report.Thousands(float64(b.backlog)), row.After,
			reach(fmt.Sprintf("%d", row.Took.Milliseconds()), row.Took <= 2*time.Second, "2000"),
		})
	}
	b.lab.End(p)
	out.Data = data
	return out, nil
}

func servedOne(ctx context.Context, addr string) error {
	control, err := tasks.Open(ctx, addr)
	if err != nil {
		return err
	}
	defer control.Close()
	return control.Serve()
}
