package main

import (
	"context"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

// idleGoal is the largest memory of an idle connection on a node, in KiB of resident memory.
const idleGoal = 10

// idleRow has the memory of idle connections on one server, in bytes of resident memory.
type idleRow struct {
	Server      string  `json:"server"`
	Connections int     `json:"connections"`
	Before      int64   `json:"before"`
	Opened      int64   `json:"opened"`  // after each connection has sent one task
	Settled     int64   `json:"settled"` // after a quiet time
	Each        float64 `json:"each"`    // bytes per connection over Before, settled
	Answered    string  `json:"answered"`
	Closed      int64   `json:"closed"` // a while after all were closed
}

// idleMemory measures idle connections on a node and on an ordinary Go line server.
func (b *bench) idleMemory(ctx context.Context) (report.Section, error) {
	posta, _, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	row, err := b.weigh(ctx, posta)
	if err != nil {
		return report.Section{}, err
	}
	row.Server = "Posta"
	bare, err := b.bare(ctx, "--buffered")
	if err != nil {
		return report.Section{}, err
	}
	other, err := b.weigh(ctx, bare)
	if err != nil {
		return report.Section{}, err
	}
	other.Server = "bare server with two 4 KiB buffers"
	return idleSection([]idleRow{row, other}), nil
}

// weigh opens idle connections to a server, sends one task on each, waits, and reads the resident memory of the
// server. Then it sends one more task on each, to check that the connections still work.
func (b *bench) weigh(ctx context.Context, server *lab.Process) (idleRow, error) {
	row := idleRow{Connections: b.idle}
	pid := server.Pid()
	var err error
	if row.Before, err = b.settledMemory(ctx, pid); err != nil {
		return row, err
	}
	idlers, err := b.holdIdle(ctx, server.Addr, b.idle)
	if err != nil {
		return row, err
	}
	if row.Opened, err = load.Memory(pid, "VmRSS"); err != nil {
		return row, err
	}
	if row.Settled, err = b.settledMemory(ctx, pid); err != nil {
		return row, err
	}
	if row.Answered, err = b.lab.Ask(idlers, "again"); err != nil {
		return row, err
	}
	b.lab.End(idlers)
	row.Each = float64(row.Settled-row.Before) / float64(b.idle)
	row.Closed, err = b.settledMemory(ctx, pid)
	return row, err
}

// holdIdle starts a process with a number of idle connections. Each has sent one task.
func (b *bench) holdIdle(ctx context.Context, addr string, connections int) (*lab.Process, error) {
	p, err := b.lab.StartSelf(ctx, verbIdlers, "--to", addr, "--connections", fmt.Sprint(connections))
	if err != nil {
		return nil, err
	}
	line, err := b.lab.Line(p)
	if err == nil && line != idlersReady {
		err = fmt.Errorf("%s said %q", verbIdlers, line)
	}
	return p, err
}

func (b *bench) settledMemory(ctx context.Context, pid int) (int64, error) {
	if err := pause(ctx, b.settle); err != nil {
		return 0, err
	}
	return load.Memory(pid, "VmRSS")
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func idleSection(data []idleRow) report.Section {
	out := report.Section{
		Title: "Idle connections: resident memory",
		Head:  []string{"server", "connections", "before", "opened", "settled", "each", "after closing", "served again"},
		Notes: []string{"Each connection was served one task before it went idle, and one afterwards."},
		Data:  data,
	}
	for i, r := range data {
		each := fmt.Sprintf("%.1f KiB", r.Each/1024)
		if i == 0 && r.Each/1024 < idleGoal {
			each += fmt.Sprintf(", goal < %d reached", idleGoal)
		} else if i == 0 {
			each += fmt.Sprintf(", goal < %d MISSED", idleGoal)
		}
		out.Rows = append(out.Rows, []string{
			r.Server, report.Thousands(float64(r.Connections)), report.Mebibytes(r.Before), report.Mebibytes(r.Opened), report.Mebibytes(r.Settled), each,
			report.Mebibytes(r.Closed), r.Answered,
		})
	}
	return out
}

// besideGoal is the part of the rate that must remain with idle connections in addition to the load.
const besideGoal = 0.90

// besideIdle compares two nodes under the same load. One of them also has idle connections.
func (b *bench) besideIdle(ctx context.Context) (report.Section, error) {
	_, alone, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	_, beside, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	if _, err := b.holdIdle(ctx, beside.Addr, b.beside); err != nil {
		return report.Section{}, err
	}
	out := report.Section{
		Title: fmt.Sprintf("Rate with %s idle connections beside the load, tasks/s", report.Thousands(float64(b.beside))),
		Head:  []string{"load", "without", "with", "with ÷ without"},
	}
	var data []besideRow
	for _, s := range load.Shapes(16) {
		b.lab.Say("  %v", s)
		samples, err := b.interleave(ctx, s, alone, beside)
		if err != nil {
			return report.Section{}, err
		}
		row := besideRow{s, samples[0], samples[1], report.SpreadOf(ratios(samples[1], samples[0]))}
		data = append(data, row)
		out.Rows = append(out.Rows, []string{
			s.String(), report.SpreadOf(rates(row.Without)).Count(), report.SpreadOf(rates(row.With)).Count(), row.Ratio.Against(besideGoal),
		})
	}
	out.Data = data
	return out, nil
}

// besideRow is one shape of load on a node without and with idle connections.
type besideRow struct {
	Shape   load.Shape    `json:"shape"`
	Without []load.Sample `json:"without"`
	With    []load.Sample `json:"with"`
	Ratio   report.Spread `json:"ratio"`
}
