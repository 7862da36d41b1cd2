package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// settleTime is how long a round waits until all tasks are recorded.
	settleTime = 60 * time.Second
	settlePoll = 2 * time.Millisecond
)

// clock records when tasks of a round with latencies were sent and done, by number.
type clock struct {
	mu    sync.Mutex // guards sent and took
	sent  map[int64]time.Time
	took  []time.Duration
	begun atomic.Bool // times are recorded
	next  atomic.Int64
}

func newClock() *clock { return &clock{sent: map[int64]time.Time{}} }

// done is called when a worker has finished a task.
func (c *clock) done(number int64) {
	if !c.begun.Load() {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.sent[number]; ok {
		c.took = append(c.took, now.Sub(at))
		delete(c.sent, number)
	}
}

// send records that a task is about to be enqueued.
func (c *clock) send() int64 {
	number := c.next.Add(1)
	c.mu.Lock()
	c.sent[number] = time.Now()
	c.mu.Unlock()
	return number
}

// percentiles returns the percentiles of the recorded times and forgets these.
func (c *clock) percentiles() (p50, p99 time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.took)
	if n := len(c.took); n > 0 {
		p50, p99 = c.took[n/2], c.took[n*99/100]
	}
	c.took = nil
	return p50, p99
}

// round runs a request.
func round(p peer, times *clock, r request) (answer, error) {
	if s, ok := p.(sleeper); ok {
		if err := s.wake(); err != nil {
			return answer{}, err
		}
	}
	before, err := p.finished()
	if err != nil {
		return answer{}, err
	}
	began := time.Now()
	var acked int64
	if r.Rate > 0 {
		acked, err = steady(p, times, r)
	} else {
		acked, err = flood(p, times, r)
	}
	if err == nil && r.Work {
		err = settle(p, before+acked)
	}
	a := answer{Tasks: int(acked), Took: time.Since(began)}
	if r.Rate > 0 {
		times.begun.Store(false)
		a.P50, a.P99 = times.percentiles()
	}
	if err != nil {
		return a, err
	}
	return a, p.forget()
}

// flood enqueues from several producers, each as fast as its tasks are acknowledged.
func flood(p peer, times *clock, r request) (int64, error) {
	end := time.Now().Add(r.For)
	var acked atomic.Int64
	errs := make(chan error, r.Producers)
	for range r.Producers {
		go func() { errs <- produce(p, times, r, end, &acked) }()
	}
	var first error
	for range r.Producers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return acked.Load(), first
}

func produce(p peer, times *clock, r request, end time.Time, acked *atomic.Int64) error {
	to, err := p.producer(r.Work)
	if err != nil {
		return err
	}
	defer to.close()
	numbers := make([]int64, r.Batch)
	for time.Now().Before(end) && (r.Most == 0 || acked.Load() < r.Most) {
		for i := range numbers {
			numbers[i] = times.next.Add(1)
		}
		if err := to.enqueue(numbers); err != nil {
			return err
		}
		acked.Add(int64(len(numbers)))
	}
	return nil
}

// steady enqueues a number of tasks a second. A slow acknowledgement does not delay other tasks.
func steady(p peer, times *clock, r request) (int64, error) {
	times.begun.Store(true)
	var idle []producer
	for range r.Producers {
		to, err := p.producer(true)
		if err != nil {
			return 0, err
		}
		defer to.close()
		idle = append(idle, to)
	}
	free := make(chan producer, len(idle))
	for _, to := range idle {
		free <- to
	}
	var acked atomic.Int64
	errs := make(chan error, 1)
	var under sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(r.Rate))
	defer ticker.Stop()
	for end := time.Now().Add(r.For); time.Now().Before(end); <-ticker.C {
		to := <-free
		under.Go(func() {
			if err := to.enqueue([]int64{times.send()}); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
			acked.Add(1)
			free <- to
		})
	}
	under.Wait()
	select {
	case err := <-errs:
		return acked.Load(), err
	default:
		return acked.Load(), nil
	}
}

// settle waits until n tasks are recorded.
func settle(p peer, want int64) error {
	for end := time.Now().Add(settleTime); ; time.Sleep(settlePoll) {
		now, err := p.finished()
		if err != nil || now == want {
			return err
		}
		if now > want || time.Now().After(end) {
			return fmt.Errorf("%d tasks are recorded as worked, %d were acknowledged", now, want)
		}
	}
}
