package cli

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width grows with the duration: each power of two has subBuckets of
// them. So a value from a nanosecond to an hour is accurate to 1 %, in 40 KiB. It is not safe for concurrent use.
// The zero histogram is empty.
type histogram struct {
	counts [(histogramExponent + 2) * histogramBuckets]int64
	total  int64
	sum    time.Duration
	low    time.Duration
	high   time.Duration
}

const (
	histogramBits     = 7
	histogramBuckets  = 1 << histogramBits
	histogramExponent = 35 // 2^(35+8) ns are more than two hours
)

// Record counts one duration.
func (h *histogram) Record(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.sum += d
	if h.total == 0 || d < h.low {
		h.low = d
	}
	h.high = max(h.high, d)
	h.total++
}

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	exponent := bits.Len64(v) - histogramBits - 1
	if exponent <= 0 {
		return int(v)
	}
	if exponent > histogramExponent {
		return (histogramExponent+2)*histogramBuckets - 1
	}
	return exponent*histogramBuckets + int(v>>exponent)
}

// middleOf returns the duration in the middle of a bucket.
func middleOf(bucket int) time.Duration {
	exponent := bucket/histogramBuckets - 1
	if exponent <= 0 {
		return time.Duration(bucket)
	}
	low := uint64(bucket-exponent*histogramBuckets) << exponent
	return time.Duration(low + 1<<exponent/2)
}

// Add adds the counts of another histogram.
func (h *histogram) Add(other *histogram) {
	if other.total == 0 {
		return
	}
	if h.total == 0 || other.low < h.low {
		h.low = other.low
	}
	h.high = max(h.high, other.high)
	h.total += other.total
	h.sum += other.sum
	for i, n := range other.counts {
		h.counts[i] += n
	}
}

// Percentile returns the duration that p percent of the recorded durations do not exceed; 0 if there are none.
func (h *histogram) Percentile(p float64) time.Duration {
	rank := int64(math.Ceil(p / 100 * float64(h.total)))
	seen := int64(0)
	for bucket, n := range h.counts {
		seen += n
		if seen >= rank && n > 0 && bucket < len(h.counts)-1 { // the last bucket has no upper end
			return min(max(middleOf(bucket), h.low), h.high)
		}
	}
	return h.high
}

// Mean returns the mean; 0 if nothing was recorded.
func (h *histogram) Mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	return h.sum / time.Duration(h.total)
}

// Count returns the number of durations.
func (h *histogram) Count() int64 { return h.total }

// Min returns the shortest duration.
func (h *histogram) Min() time.Duration { return h.low }

// Max returns the longest duration.
func (h *histogram) Max() time.Duration { return h.high }
