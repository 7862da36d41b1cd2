package durable

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// actions returns the current actions of the engine.
func (c *core) actions() []string {
	if c.config.Actions != nil {
		return c.config.Actions
	}
	return c.config.Executor.Actions()
}

// ActionsChanged must be called after the actions of the executor have changed. The engine then looks for tasks
// that it can run now.
func (e *Engine) ActionsChanged() { e.claimer.actionsChanged() }

// actionsChanged makes the engine look for tasks of actions that it could not claim before.
func (c *claimer) actionsChanged() {
	if c.mailbox != nil {
		c.mailbox.Changed()
	}
	c.registry.announceSoon()
	c.look()
}

// freeByAction is capacity.byAction. It also makes the engine look again when an action is no longer held back.
func (c *claimer) freeByAction(limit int) (names []string, free map[string]int) {
	names, free, retry := c.capacity.byAction(limit)
	if retry > 0 {
		c.heldOver.Reset(retry)
	}
	return names, free
}

// mayHaveLeft reports whether a claim may have skipped tasks because a limit of a queue or an action is reached.
func mayHaveLeft(by *store.Claim, got []task.Task) bool {
	queues, actions := map[string]int{}, map[string]int{}
	for i := range got {
		queues[got[i].Queue]++
		actions[got[i].Action]++
	}
	for name, n := range by.ActionSlots {
		if actions[name] >= n {
			return true
		}
	}
	for name, n := range queues {
		if by.Queues != nil && n >= by.Capacity(name) {
			return true
		}
	}
	for name, n := range by.Queues {
		if name != "*" && n == 0 {
			return true
		}
	}
	return false
}
