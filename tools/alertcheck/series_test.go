package alertcheck

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// series is a database of series in memory, for Prometheus' evaluator.
type series map[string]*shown

type shown struct {
	name   labels.Labels
	values values
}

// put adds or replaces a series of the instance n1:9001 and the job posta.
func (s series) put(name labels.Labels, values values) {
	b := labels.NewBuilder(name).Set("job", "posta")
	if !name.Has("instance") {
		b.Set("instance", "n1:9001")
	}
	name = b.Labels()
	s[name.String()] = &shown{name, values}
}

// Querier implements storage.Queryable.
func (s series) Querier(int64, int64) (storage.Querier, error) { return querier{all: s}, nil }

type querier struct {
	storage.LabelQuerier
	all series
}

// Close implements storage.Querier.
func (querier) Close() error { return nil }

// Select implements storage.Querier.
func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &set{at: -1}
	for _, s := range q.all {
		matches := true
		for _, m := range matchers {
			matches = matches && m.Matches(s.name.Get(m.Name))
		}
		if matches {
			found.list = append(found.list, s)
		}
	}
	return found
}

// set iterates over series.
type set struct {
	list []*shown
	at   int
}

// Next implements storage.SeriesSet.
func (s *set) Next() bool { s.at++; return s.at < len(s.list) }

// At implements storage.SeriesSet.
func (s *set) At() storage.Series { return s.list[s.at] }

// Err implements storage.SeriesSet.
func (*set) Err() error { return nil }

// Warnings implements storage.SeriesSet.
func (*set) Warnings() annotations.Annotations { return nil }

// Labels implements storage.Series.
func (s *shown) Labels() labels.Labels { return s.name }

// Iterator implements storage.Series: a sample for each scrape of the history.
func (s *shown) Iterator(chunkenc.Iterator) chunkenc.Iterator { return &samples{of: s.values, at: -1} }

type samples struct {
	of values
	at int
}

// Next implements chunkenc.Iterator.
func (i *samples) Next() chunkenc.ValueType {
	i.at++
	if time.Duration(i.at)*scraped > history {
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

// Seek implements chunkenc.Iterator.
func (i *samples) Seek(to int64) chunkenc.ValueType {
	for i.at < 0 || i.AtT() < to {
		if i.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return chunkenc.ValFloat
}

// At implements chunkenc.Iterator.
func (i *samples) At() (int64, float64) { return i.AtT(), i.of(i.at) }

// AtT implements chunkenc.Iterator.
func (i *samples) AtT() int64 { return (time.Duration(i.at) * scraped).Milliseconds() }

// AtST implements chunkenc.Iterator.
func (*samples) AtST() int64 { return 0 }

// AtHistogram implements chunkenc.Iterator; there are none.
func (*samples) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) { return 0, nil }

// AtFloatHistogram implements chunkenc.Iterator; there are none.
func (*samples) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return 0, nil
}

// Err implements chunkenc.Iterator.
func (*samples) Err() error { return nil }
