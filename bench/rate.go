package main

import (
	"context"

	"github.com/posta-tasks/posta/bench/load"
)

// rateRow is one shape of load on the bare server and on Posta, directly.
type rateRow struct {
	Shape load.Shape    `json:"shape"`
	Bare  []load.Sample `json:"bare"`
	Posta []load.Sample `json:"posta"`
	Ratio spread        `json:"ratio"`
	Goal  float64       `json:"goal,omitempty"`
}

// rate compares Posta with the bare server.
func (b *bench) rate(ctx context.Context) (section, error) {
	bare, err := b.bare(ctx)
	if err != nil {
		return section{}, err
	}
	_, posta, err := b.subject(ctx)
	if err != nil {
		return section{}, err
	}
	var data []rateRow
	for _, s := range append(load.Shapes(1), load.Shapes(16)...) {
		b.lab.Say("  %v", s)
		samples, err := b.interleave(ctx, s, targetOf(bare, true), posta)
		if err != nil {
			return section{}, err
		}
		data = append(data, rateRow{
			Shape: s, Bare: samples[0], Posta: samples[1],
			Ratio: spreadOf(ratios(samples[1], samples[0])), Goal: rateGoal(s),
		})
	}
	return rateSection(data), nil
}

// rateGoal is the share of the bare server's rate that Posta is meant to reach; 0 for none.
func rateGoal(s load.Shape) float64 {
	if s.Connections != 16 {
		return 0
	}
	return map[int]float64{1: 0.85, 16: 0.60, 128: 0.35}[s.Depth]
}

func rateSection(data []rateRow) section {
	out := section{
		Title: "Direct path: `upper`, connections × depth, tasks/s",
		Head:  []string{"load", "bare server", "Posta", "Posta ÷ bare", "CPU µs/task, bare", "Posta", "load", "µs p50/p99, bare", "Posta"},
		Notes: []string{"CPU is each process's own time; \"load\" is the generator's, facing the bare server, and shares the same cores. Percentiles: depth 1 only."},
		Data:  data,
	}
	cpu := func(s load.Sample) float64 { return s.CPU }
	own := func(s load.Sample) float64 { return s.Load }
	for _, r := range data {
		out.Rows = append(out.Rows, []string{
			r.Shape.String(), spreadOf(rates(r.Bare)).count(), spreadOf(rates(r.Posta)).count(), r.Ratio.against(r.Goal),
			spreadOf(pick(r.Bare, cpu)).fine(), spreadOf(pick(r.Posta, cpu)).fine(),
			spreadOf(pick(r.Bare, own)).fine(), latencies(r.Bare), latencies(r.Posta),
		})
	}
	return out
}

func latencies(samples []load.Sample) string {
	p50 := spreadOf(pick(samples, func(s load.Sample) float64 { return s.P50 }))
	p99 := spreadOf(pick(samples, func(s load.Sample) float64 { return s.P99 }))
	if p50.Median == 0 {
		return "–"
	}
	return p50.whole() + " / " + p99.whole()
}
