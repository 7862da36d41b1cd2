package cli

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestAPercentileIsKnownToOnePercent(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	h, other := &histogram{}, &histogram{}
	for i := range 20_000 {
		d := time.Duration(1 << random.IntN(34)) // from a nanosecond to seconds
		d += time.Duration(random.Int64N(int64(d) + 1))
		all = append(all, d)
		if i%2 == 0 {
			h.Record(d)
		} else {
			other.Record(d)
		}
	}
	h.Add(other)
	slices.Sort(all)
	for _, p := range []float64{1, 25, 50, 90, 99, 99.9, 100} {
		want := all[max(0, int(p/100*float64(len(all)))-1)]
		if got := h.Percentile(p); float64((got - want).Abs()) > 0.01*float64(want) {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	if h.low != all[0] || h.high != all[len(all)-1] || h.total != int64(len(all)) {
		t.Errorf("from %v to %v, %d in all", h.low, h.high, h.total)
	}
}

func TestAHistogramTakesAnyDuration(t *testing.T) {
	t.Parallel()
	h := &histogram{}
	if h.Percentile(50) != 0 || h.Mean() != 0 {
		t.Error("an empty histogram has a percentile")
	}
	for _, d := range []time.Duration{-1, 0, 1, 127, 128, 255, 256, time.Hour, 1 << 62} {
		h.Record(d)
	}
	if got := h.Percentile(100); got != 1<<62 {
		t.Errorf("p100 is %v", got)
	}
}
