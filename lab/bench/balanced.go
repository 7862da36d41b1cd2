package main

import (
	"context"
	"errors"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

const direct = "direct"

// way is a path to a server: direct, or through a balancer. Both servers are measured on each.
type way struct {
	through     string
	bare, posta load.Target
}

// balancedRow is one shape of load through one balancer.
type balancedRow struct {
	Shape   load.Shape    `json:"shape"`
	Through string        `json:"through"`
	Bare    []load.Sample `json:"bare"`
	Posta   []load.Sample `json:"posta"`
	// PostaToBare compares the two servers behind the same balancer.
	PostaToBare report.Spread `json:"posta_to_bare"`
	// BareToDirect and PostaToDirect are the cost of the balancer for each server.
	BareToDirect  report.Spread `json:"bare_to_direct"`
	PostaToDirect report.Spread `json:"posta_to_direct"`
	// ToHAProxy compares Posta's rates behind this balancer and behind HAProxy.
	ToHAProxy report.Spread `json:"to_haproxy"`
	Goal      float64       `json:"goal,omitempty"`
}

// balanced compares the paths through the balancers with each other and with the direct one.
func (b *bench) balanced(ctx context.Context) (report.Section, error) {
	ways, notes, err := b.ways(ctx)
	if err != nil {
		return report.Section{}, err
	}
	var targets []load.Target
	for _, w := range ways {
		targets = append(targets, w.bare, w.posta)
	}
	var data []balancedRow
	for _, s := range load.Shapes(16) {
		b.lab.Say("  %v", s)
		samples, err := b.interleave(ctx, s, targets...)
		if err != nil {
			return report.Section{}, err
		}
		data = append(data, balancedRows(s, ways, samples)...)
	}
	return balancedSection(data, notes), nil
}

// ways starts both servers, and each balancer in front of each. It leaves out a balancer that is not installed,
// with a note.
func (b *bench) ways(ctx context.Context) ([]way, []string, error) {
	bare, err := b.bare(ctx)
	if err != nil {
		return nil, nil, err
	}
	node, posta, err := b.subject(ctx)
	if err != nil {
		return nil, nil, err
	}
	ways := []way{{direct, targetOf(bare, true), posta}}
	var notes []string
	for _, kind := range []string{lab.Builtin, lab.HAProxy, lab.Nginx} {
		one, err := b.through(ctx, kind, bare, node)
		if errors.Is(err, lab.ErrMissing) {
			notes = append(notes, "Left out: "+err.Error()+".")
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		ways = append(ways, one)
	}
	return ways, notes, nil
}

func (b *bench) through(ctx context.Context, kind string, bare, node *lab.Process) (way, error) {
	toBare, err := b.lab.Balancer(ctx, kind, bare.Addr)
	if err != nil {
		return way{}, err
	}
	toPosta, err := b.lab.Balancer(ctx, kind, node.Addr)
	if err != nil {
		return way{}, err
	}
	constant := b.against == verbBare
	if !constant {
		err = load.Verify(ctx, toPosta.Addr)
	}
	return way{kind, load.Target{Addr: toBare.Addr, Constant: true}, load.Target{Addr: toPosta.Addr, Constant: constant}}, err
}

// balancedRows reads the samples in the order of the targets: bare and Posta of each way.
func balancedRows(s load.Shape, ways []way, samples [][]load.Sample) []balancedRow {
	var viaHAProxy []load.Sample
	for i, w := range ways {
		if w.through == lab.HAProxy {
			viaHAProxy = samples[2*i+1]
		}
	}
	var rows []balancedRow
	for i, w := range ways {
		bare, posta := samples[2*i], samples[2*i+1]
		row := balancedRow{Shape: s, Through: w.through, Bare: bare, Posta: posta, PostaToBare: report.SpreadOf(ratios(posta, bare))}
		if w.through != direct {
			row.BareToDirect = report.SpreadOf(ratios(bare, samples[0]))
			row.PostaToDirect = report.SpreadOf(ratios(posta, samples[1]))
		}
		if w.through != direct && w.through != lab.HAProxy {
			row.ToHAProxy = report.SpreadOf(ratios(posta, viaHAProxy))
		}
		if w.through == lab.Builtin {
			row.Goal = 1
		}
		rows = append(rows, row)
	}
	return rows
}

func balancedSection(data []balancedRow, notes []string) report.Section {
	out := report.Section{
		Title: "Through the balancers: `upper`, tasks/s",
		Head:  []string{"load", "through", "bare server", "Posta", "Posta ÷ bare", "bare ÷ direct", "Posta ÷ direct", "Posta ÷ HAProxy"},
		Notes: append(notes, "One node behind each balancer; the configurations are those that `posta balancer` prints."),
		Data:  data,
	}
	for _, r := range data {
		out.Rows = append(out.Rows, []string{
			r.Shape.String(), r.Through, report.SpreadOf(rates(r.Bare)).Count(), report.SpreadOf(rates(r.Posta)).Count(),
			r.PostaToBare.Decimals(), r.BareToDirect.Decimals(), r.PostaToDirect.Decimals(), r.ToHAProxy.Against(r.Goal),
		})
	}
	return out
}
