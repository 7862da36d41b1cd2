package tasks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/bench/load"
)

// Steady enqueues so many tasks a second over one connection, each with `wait`, and measures the time from its
// request to the line that says done. A slow task keeps no other from being sent.
func Steady(ctx context.Context, to Target, rate int, d time.Duration) (Sample, error) {
	c, err := dial(ctx, to.Addr, Round{Queue: Worked})
	if err != nil {
		return Sample{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(d + replyTime)); err != nil {
		return Sample{}, err
	}
	n := int(d.Seconds() * float64(rate))
	cpu, began := load.CPUTime(to.PID)+load.CPUTime(os.Getpid()), time.Now()
	sent, failed := make([]atomic.Int64, n), make(chan error, 1)
	go func() { failed <- c.sendEach(began, time.Second/time.Duration(rate), sent) }()
	took, err := c.pushes(began, sent)
	if err != nil {
		return Sample{}, err
	}
	if err := <-failed; err != nil {
		return Sample{}, err
	}
	slices.Sort(took)
	out, err := SampleOf(n, time.Since(began), load.CPUTime(to.PID)+load.CPUTime(os.Getpid())-cpu)
	out.P50, out.P99 = micros(took[n/2]), micros(took[n*99/100])
	return out, err
}

// sendEach sends each request at its time and notes when that was.
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

// pushes reads the acknowledgements and final records of all tasks, and gives how long each took.
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

// idAndStatus reads the beginning of a reply, whose keys have a fixed order.
func idAndStatus(line []byte) (id int, status string, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(`{"id":`))
	number, rest, also := bytes.Cut(rest, []byte(`,"status":"`))
	word, _, closed := bytes.Cut(rest, []byte(`"`))
	id, err := strconv.Atoi(string(number))
	return id, string(word), found && also && closed && err == nil && id >= 0
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
