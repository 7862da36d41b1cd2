package main

import (
	"context"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

// rateRow is one shape of load on the bare server and on Posta, without a balancer.
type rateRow struct {
	Shape load.Shape    `json:"shape"`
	Bare  []load.Sample `json:"bare"`
	Posta []load.Sample `json:"posta"`
	Ratio report.Spread `json:"ratio"`
	Goal  float64       `json:"goal,omitempty"`
}

// rate compares Posta with the bare server.
func (b *bench) rate(ctx context.Context) (report.Section, error) {
	bare, err := b.bare(ctx)
	if err != nil {
		return report.Section{}, err
	}
	_, posta, err := b.subject(ctx)
	if err != nil {
		return report.Section{}, err
	}
	var data []rateRow
	for _, s := range append(load.Shapes(1), load.Shapes(16)...) {
		b.lab.Say("  %v", s)
		samples, err := b.interleave(ctx, s, targetOf(bare, true), posta)
		if err != nil {
			return report.Section{}, err
		}
		data = append(data, rateRow{
			Shape: s, Bare: samples[0], Posta: samples[1],
			Ratio: report.SpreadOf(ratios(samples[1], samples[0])), Goal: rateGoal(s),
		})
	}
	return rateSection(data), nil
}

// rateGoal is the goal as a part of the rate of the bare server; 0: none.
func rateGoal(s load.Shape) float64 {
	if s.Connections != 16 {
		return 0
	}
	return map[int]float64{1: 0.85, 16: 0.60, 128: 0.35}[s.Depth]
}

func rateSection(data []rateRow) report.Section {
	out := report.Section{
		Title: "Direct path: `upper`, connections × depth, tasks/s",
		Head:  []string{"load", "bare server", "Posta", "Posta ÷ bare", "CPU µs/task, bare", "Posta", "load", "µs p50/p99, bare", "Posta"},
		Notes: []string{"CPU is each process's own time; \"load\" is the generator's, facing the bare server, and shares the same cores. Percentiles: depth 1 only."},
		Data:  data,
	}
	cpu := func(s load.Sample) float64 { return s.CPU }
	own := func(s load.Sample) float64 { return s.Load }
	for _, r := range data {
		out.Rows = append(out.Rows, []string{
			r.Shape.String(), report.SpreadOf(rates(r.Bare)).Count(), report.SpreadOf(rates(r.Posta)).Count(), r.Ratio.Against(r.Goal),
			report.SpreadOf(pick(r.Bare, cpu)).Fine(), report.SpreadOf(pick(r.Posta, cpu)).Fine(),
			report.SpreadOf(pick(r.Bare, own)).Fine(), latencies(r.Bare), latencies(r.Posta),
		})
	}
	return out
}

func latencies(samples []load.Sample) string {
	p50 := report.SpreadOf(pick(samples, func(s load.Sample) float64 { return s.P50 }))
	p99 := report.SpreadOf(pick(samples, func(s load.Sample) float64 { return s.P99 }))
	if p50.Median == 0 {
		return "–"
	}
	return p50.Whole() + " / " + p99.Whole()
}
