package tasks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
)

// Steady enqueues a number of tasks a second over one connection to each node, with `wait`, and measures the time
// from each request to the line that says done. A slow task does not delay others.
func Steady(ctx context.Context, to Target, rate int, d time.Duration) (Sample, error) {
	each := int(d.Seconds() * float64(rate) / float64(len(to.Addrs)))
	every := time.Second * time.Duration(len(to.Addrs)) / time.Duration(rate)
	took, errs := make([][]time.Duration, len(to.Addrs)), make([]error, len(to.Addrs))
	cpu, began := to.cpu(), time.Now()
	var group sync.WaitGroup
	for i, addr := range to.Addrs {
		group.Go(func() { took[i], errs[i] = steady(ctx, addr, each, every) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return Sample{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	out, err := SampleOf(len(all), time.Since(began), to.cpu()-cpu)
	if err == nil {
		out.P50, out.P99 = micros(all[len(all)/2]), micros(all[len(all)*99/100])
	}
	return out, err
}

// steady does this over one connection, and returns the times of n tasks.
func steady(ctx context.Context, addr string, n int, every time.Duration) ([]time.Duration, error) {
	c, err := dial(ctx, addr, Round{Queue: Worked})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Duration(n)*every + replyTime)); err != nil {
		return nil, err
	}
	began := time.Now()
	sent, failed := make([]atomic.Int64, n), make(chan error, 1)
	go func() { failed <- c.sendEach(began, every, sent) }()
	took, err := c.pushes(began, sent)
	if err != nil {
		return nil, err
	}
	return took, <-failed
}

// sendEach sends each request at its time and records that time.
func (c *conn) sendEach(began time.Time, every time.Duration, sent []atomic.Int64) error {
	for i := range sent {
		time.Sleep(time.Until(began.Add(time.Duration(i) * every)))
		sent[i].Store(int64(time.Since(began)))
		if _, err := fmt.Fprintf(c, `{"id":%d,"op":"enqueue","action":"upper","payload":"hola","keep":1,"wait":true}`+"\n", i); err != nil {
			return err
		}
	}
	return nil
}

// pushes reads the acknowledgements and final records of all tasks, and returns their times.
func (c *conn) pushes(began time.Time, sent []atomic.Int64) ([]time.Duration, error) {
	var took []time.Duration
	n := len(sent)
	for len(took) < n {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("%d of %d tasks are done: %w", len(took), n, err)
		}
		now := time.Since(began)
		id, status, ok := idAndStatus(line)
		switch {
		case ok && status == "queued":
		case ok && status == "done" && id < n && bytes.Contains(line, []byte(`"result":{"ok":true,"data":"HOLA"},"attempt":1`)):
			took = append(took, now-time.Duration(sent[id].Load()))
		default:
			return nil, load.Unexpected(line)
		}
	}
	return took, nil
}

// idAndStatus parses the beginning of a reply, whose keys have a fixed order.
func idAndStatus(line []byte) (id int, status string, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(`{"id":`))
	number, rest, also := bytes.Cut(rest, []byte(`,"status":"`))
	word, _, closed := bytes.Cut(rest, []byte(`"`))
	id, err := strconv.Atoi(string(number))
	return id, string(word), found && also && closed && err == nil && id >= 0
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
