package main

import "github.com/posta-tasks/posta/lab/bench/load"

// pick returns one figure of each sample.
func pick(samples []load.Sample, figure func(load.Sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = figure(s)
	}
	return out
}

func rates(samples []load.Sample) []float64 {
	return pick(samples, func(s load.Sample) float64 { return s.Rate })
}

// ratios divides round by round, so that a disturbance of both halves of a round cancels out.
func ratios(over, under []load.Sample) []float64 {
	out := make([]float64, 0, len(over))
	for i := range min(len(over), len(under)) {
		out = append(out, over[i].Rate/under[i].Rate)
	}
	return out
}
