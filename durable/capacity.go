package durable

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
)

// unrecordedMost is how many outcomes may wait for the store. Beyond it the engine claims nothing.
const unrecordedMost = 4_096

// capacity calculates how many tasks the engine can claim now.
type capacity struct {
	*core
	launcher *launcher
	recorder *recorder
	reserved atomic.Int64 // slots for tasks that a running accept may claim
}

// free returns how many more tasks the engine may claim. If other tasks have taken all slots of the executor, one
// durable task waits with them for its turn, so that durable tasks do not starve. While tasks are quick, some are
// prefetched.
func (c *capacity) free() int {
	mine := c.attempts.Active() + int(c.reserved.Load())
	if c.recorder.len() > unrecordedMost {
		return 0
	}
	free := c.config.Executor.Free()
	if mine == 0 {
		free = max(free, 1)
	}
	if more := c.launcher.prefetch.Allowed(); more > 0 {
		return max(0, c.config.Slots+more-mine)
	}
	return max(0, min(c.config.Slots-mine, free))
}

// byQueue returns how many tasks of each queue a claim of limit tasks may take; nil means any.
func (c *capacity) byQueue(limit int) map[string]int {
	if c.config.Queues == nil {
		return nil
	}
	free := make(map[string]int, len(c.config.Queues))
	for queue, rule := range c.config.Queues {
		free[queue] = limit
		if rule.Running > 0 {
			free[queue] = max(0, rule.Running-c.attempts.ActiveIn(queue))
		}
	}
	if rest := c.config.Queues["*"]; rest.Running > 0 {
		free["*"] = rest.Running
		for queue, n := range c.attempts.ActiveByQueue() {
			if _, named := c.config.Queues[queue]; !named {
				free[queue] = max(0, rest.Running-n)
			}
		}
	}
	return free
}

// byAction returns the actions whose tasks a claim of limit tasks may take, and the number of tasks for each action
// with slots of its own and fewer than limit of them free. An action that is held back, or that has no free slot,
// is left out: its tasks stay in the store, where another node finds them. If direct tasks have taken all slots of
// an action, one durable task waits with them for its turn. retry is the time until an action is no longer held
// back; 0 means that none is.
func (c *capacity) byAction(limit int) (names []string, free map[string]int, retry time.Duration) {
	all, limited := c.actions(), c.config.Executor.Limited()
	if limited == nil {
		return all, nil, 0
	}
	names, free = make([]string, 0, len(all)), map[string]int{}
	for _, name := range all {
		action, n := limited[name], math.MaxInt
		if action.Held > 0 {
			if retry == 0 || action.Held < retry {
				retry = action.Held
			}
			n = 0
		} else if action.Slots > 0 {
			mine := c.attempts.ActiveOf(name)
			if n = min(action.Slots-mine, action.Free); mine == 0 {
				n = max(n, 1)
			}
		}
		if n < limit {
			free[name] = max(n, 0)
		}
		if n > 0 {
			names = append(names, name)
		}
	}
	return names, free, retry
}

// takeOne takes one place of the queue and one of the action of a task. It returns false if either has none.
func takeOne(queues, actions map[string]int, t *task.Task) bool {
	places := ofQueue(queues, t.Queue)
	ofAction, limited := actions[t.Action]
	if queues != nil && places <= 0 || limited && ofAction <= 0 {
		return false
	}
	if queues != nil {
		queues[t.Queue] = places - 1
	}
	if limited {
		actions[t.Action] = ofAction - 1
	}
	return true
}

// limits reports whether the node limits how many tasks of a queue run at once.
func (c *Config) limits(queue string) bool {
	return ofQueue(c.Queues, queue).Running > 0
}

// ofQueue returns the value for a queue. "*" is every queue that is not named.
func ofQueue[V any](m map[string]V, queue string) V {
	if v, named := m[queue]; named {
		return v
	}
	return m["*"]
}
