package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two of nanoseconds is cut into 16 buckets: a percentile is off by 6 % at most.
const (
	subBits    = 4
	subBuckets = 1 << subBits
)

// histogram counts round-trip times. One goroutine adds; another may reset and read meanwhile. A nil
// histogram takes no notice.
type histogram struct {
	counts [64 * subBuckets]atomic.Uint32
}

// add records the time since sent, if any reply came, and returns the time at which the next request is sent.
func (h *histogram) add(sent time.Time, lines int) time.Time {
	if h == nil || lines == 0 {
		return sent
	}
	now := time.Now()
	h.counts[bucket(uint64(now.Sub(sent)))].Add(1)
	return now
}

func (h *histogram) reset() {
	if h == nil {
		return
	}
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

func (h *histogram) merge(other *histogram) {
	for i := range h.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
}

// percentile returns the upper end of the bucket that holds the given share of all values.
func (h *histogram) percentile(share float64) time.Duration {
	var total, seen float64
	for i := range h.counts {
		total += float64(h.counts[i].Load())
	}
	for i := range h.counts {
		seen += float64(h.counts[i].Load())
		if seen > 0 && seen >= share*total {
			return time.Duration(bucketEnd(i))
		}
	}
	return 0
}

// bucket maps a value to its bucket: small values have one each, others share one with their neighbours.
func bucket(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// bucketEnd is the largest value in a bucket.
func bucketEnd(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	return (uint64(i%subBuckets+subBuckets)+1)<<shift - 1
}
