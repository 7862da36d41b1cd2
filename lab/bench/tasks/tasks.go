// Package tasks puts durable tasks on a Posta and measures what was acknowledged, worked and recorded.
//
// A task counts when its `queued` was read and, where it is to be worked, when the queue has nothing left and nothing
// has failed. Some of the tasks of each round are read afterwards: each must have the right record. Verify does so
// for every task of a round, once before anything is measured.
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
	// Worked is the queue of tasks that are worked, and Backlog that of tasks that wait: it is paused.
	Worked, Backlog = "default", "backlog"

	// settleTime bounds the wait until all that was enqueued is recorded.
	settleTime = 60 * time.Second
	settlePoll = 5 * time.Millisecond
	// sampled is how many tasks of each connection are read afterwards.
	sampled = 8
)

// Target is a Posta to be measured.
type Target struct {
	// Addrs is where its nodes serve, which share their store: the connections of a load are dealt to them in turn.
	Addrs []string
	// PIDs are its processes and those of its servers, whose children count as well.
	PIDs []int
}

// cpu is the processor time used so far by the target and by the load.
func (to Target) cpu() time.Duration { return load.CPUOf(append([]int{os.Getpid()}, to.PIDs...)) }

// Round says what one measurement does.
type Round struct {
	load.Shape
	Queue string        // Worked or Backlog
	For   time.Duration // how long tasks are enqueued
	Most  int           // tasks at most of each connection; 0: no bound
	Keep  float64       // seconds that tasks are kept when they are finished
	// Unread leaves out the reading of records: they may be deleted already.
	Unread bool
}

// Sample is what a round of any system did.
type Sample struct {
	Tasks int           `json:"tasks"`
	Took  time.Duration `json:"took_ns"`
	Rate  float64       `json:"rate"`          // tasks a second
	CPU   float64       `json:"cpu"`           // microseconds of processor time a task: server, workers and load
	P50   float64       `json:"p50,omitempty"` // microseconds
	P99   float64       `json:"p99,omitempty"`
}

// SampleOf works out rate and cost. The processor time is that of all processes that had a part in it.
func SampleOf(tasks int, took, cpu time.Duration) (Sample, error) {
	if tasks == 0 {
		return Sample{}, fmt.Errorf("nothing was acknowledged within %v", took)
	}
	return Sample{
		Tasks: tasks, Took: took, Rate: float64(tasks) / took.Seconds(),
		CPU: float64(cpu) / float64(time.Microsecond) / float64(tasks),
	}, nil
}

// Measure does one round: it enqueues from all connections, then waits until everything is recorded if the queue
// is worked, and reads some of the records.
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

// flooded is what the connections of a round did.
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

// Fill enqueues so many tasks, and some fewer when the connections cannot share them evenly.
func Fill(ctx context.Context, to Target, n int, r Round) error {
	r.For, r.Most = time.Hour, n/r.Connections
	_, err := enqueue(ctx, to.Addrs, r)
	return err
}
