// Package tasks sends durable tasks to a Posta and measures how many are acknowledged, run and recorded.
//
// A task counts when its `queued` was read. If it is to be run, it counts when its queue is empty and no task has
// failed. After each round some of its tasks are read: each must have the right record. Verify checks every task of
// a round, once before measurements.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	// Worked is the queue of tasks that are run, and Backlog that of tasks that wait. Backlog is paused.
	Worked, Backlog = "default", "backlog"

	// settleTime is how long a round waits until all tasks are recorded.
	settleTime = 60 * time.Second
	settlePoll = 5 * time.Millisecond
	// sampled is how many tasks of each connection are read after a round.
	sampled = 8
)

// Target is a Posta that is measured.
type Target struct {
	// Addrs has the addresses of its nodes, which share a store. Connections are distributed over them in turn.
	Addrs []string
	// PIDs has its processes and those of its servers. Their children count too.
	PIDs []int
}

// cpu is the CPU time so far of the target and of the load.
func (to Target) cpu() time.Duration { return load.CPUOf(append([]int{os.Getpid()}, to.PIDs...)) }

// Round configures one measurement.
type Round struct {
	load.Shape
	Queue string // Worked or Backlog
	// Action answers like upper; "" means upper.
	Action string
	For    time.Duration // how long tasks are enqueued
	Most   int           // largest number of tasks of each connection; 0: no limit
	Keep   float64       // seconds that finished tasks are kept
	// Unread skips reading the records, which may be deleted already.
	Unread bool
}

// Sample is the outcome of a round of any system.
type Sample struct {
	Tasks int           `json:"tasks"`
	Took  time.Duration `json:"took_ns"`
	Rate  float64       `json:"rate"`          // tasks a second
	CPU   float64       `json:"cpu"`           // microseconds of processor time a task: server, workers and load
	P50   float64       `json:"p50,omitempty"` // microseconds
	P99   float64       `json:"p99,omitempty"`
}

// SampleOf calculates rate and cost. The CPU time is that of all involved processes.
func SampleOf(tasks int, took, cpu time.Duration) (Sample, error) {
	if tasks == 0 {
		return Sample{}, fmt.Errorf("nothing was acknowledged within %v", took)
	}
	return Sample{
		Tasks: tasks, Took: took, Rate: float64(tasks) / took.Seconds(),
		CPU: float64(cpu) / float64(time.Microsecond) / float64(tasks),
	}, nil
}

// Measure runs one round: it enqueues over all connections, waits until everything is recorded if the tasks are
// run, and reads some of the records.
func Measure(ctx context.Context, to Target, r Round) (Sample, error) {
	cpu, began := to.cpu(), time.Now()
	flood, err := enqueue(ctx, to.Addrs, r)
	if err != nil {
		return Sample{}, err
	}
	control, err := Open(ctx, to.Addrs[0])
	if err != nil {
		return Sample{}, err
	}
	defer control.Close()
	if r.Queue == Worked {
		if err := control.Settle(ctx, r.Queue); err != nil {
			return Sample{}, err
		}
	}
	took := time.Since(began)
	out, err := SampleOf(flood.acked, took, to.cpu()-cpu)
	if err != nil || r.Unread {
		return out, err
	}
	return out, control.check(flood.some, r)
}

// flooded is the outcome of the connections of a round.
type flooded struct {
	acked int
	some  []string // ids of some of the tasks
}

// enqueue keeps all connections busy for the time of a round, and returns when the last task is acknowledged.
func enqueue(ctx context.Context, addrs []string, r Round) (flooded, error) {
	conns := make([]*conn, r.Connections)
	for i := range conns {
		c, err := dial(ctx, addrs[i%len(addrs)], r)
		if err != nil {
			return flooded{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	end := time.Now().Add(r.For)
	errs := make([]error, len(conns))
	var group sync.WaitGroup
	for i, c := range conns {
		group.Go(func() { errs[i] = c.run(end) })
	}
	group.Wait()
	var out flooded
	for _, c := range conns {
		out.acked += c.acked
		out.some = append(out.some, c.some...)
	}
	return out, errors.Join(errs...)
}

// Fill enqueues a number of tasks, or a few less if the connections cannot share them evenly.
func Fill(ctx context.Context, to Target, n int, r Round) error {
	r.For, r.Most = time.Hour, n/r.Connections
	_, err := enqueue(ctx, to.Addrs, r)
	return err
}
