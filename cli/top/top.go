// Package top is the live view of a running system on a terminal. Model has what is shown and turns keys into requests;
// it reads and changes the system only through a System.
package top

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

const (
	// Every is the time between the end of one poll and the beginning of the next.
	Every = time.Second
	// Patience is the timeout of one poll or change.
	Patience = 5 * time.Second
	// RunningTasks and RecentTasks are how many tasks of each kind one poll reads.
	RunningTasks, RecentTasks = 200, 50
	// trendPolls is how many polls the trend of a queue shows.
	trendPolls = 60
)

// System is the system that is shown. Its methods may be called concurrently.
type System interface {
	// Read returns how the system is now. An error means that nothing answers.
	Read(ctx context.Context) (*Snapshot, error)
	// SetPaused pauses or resumes a queue.
	SetPaused(ctx context.Context, queue string, paused bool) error
	// Cancel ends a task. It reports whether the task runs and was asked to stop.
	Cancel(ctx context.Context, id string) (cancelling bool, err error)
	// Retry queues a task again.
	Retry(ctx context.Context, id string) error
}

// Snapshot is the system at one time. Its texts come from clients and nodes, and may contain anything.
type Snapshot struct {
	At      time.Time       `json:"at"`
	Nodes   []doctor.Node   `json:"nodes"`
	Workers []doctor.Worker `json:"workers"`
	Queues  []client.Queue  `json:"queues"`
	Running []client.Record `json:"running"` // at most RunningTasks, the newest first
	Recent  []client.Record `json:"recent"`  // at most RecentTasks, the newest first; some may be running
	// Notes say which part is missing, and why.
	Notes []string `json:"notes,omitempty"`
}

// held returns how many durable tasks each node runs in slots of its own.
func (s *Snapshot) held() map[string]int {
	held := map[string]int{}
	for i := range s.Running {
		if s.Running[i].Worker == "" {
			held[s.Running[i].Node]++
		}
	}
	return held
}

// tasks returns the tasks to show: the running ones, the longest-running first, and behind them the recent others.
func (s *Snapshot) tasks() []*client.Record {
	var list []*client.Record
	shown := map[string]bool{}
	for i := len(s.Running) - 1; i >= 0; i-- {
		t := &s.Running[i]
		shown[t.Task] = true
		list = append(list, t)
	}
	for i := range s.Recent {
		if t := &s.Recent[i]; !shown[t.Task] {
			list = append(list, t)
		}
	}
	return list
}

// Config configures a Model.
type Config struct {
	System System
	Addr   string // the address of the system, for people
	Paint  terminal.Painter
	Fault  func(err error) string // returns what people read about an error
}
