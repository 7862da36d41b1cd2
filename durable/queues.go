package durable

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Queues returns every queue, by name.
func (e *Engine) Queues(ctx context.Context) ([]Queue, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := e.config.Store.Queues(ctx)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	waiting, err := e.config.Store.Waiting(ctx)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	unserved := e.unserved(waiting)
	now, list := time.Now(), make([]Queue, len(found))
	for i, q := range found {
		list[i] = Queue{
			Name: q.Name, Paused: q.Paused, Scheduled: q.Scheduled, Queued: q.Queued, Running: q.Running, Failed: q.Failed,
			OldestAge: q.OldestAge, Accepted: q.Accepted, Finished: q.Finished, Unserved: unserved[q.Name],
		}
		list[i].RateIn, list[i].RateOut = e.registry.rates.Of(now, q)
	}
	return list, nil
}

// unserved returns the queues that have tasks which no live node can run.
func (e *Engine) unserved(waiting []store.Waiting) map[string]bool {
	queues, nodes := map[string]bool{}, e.registry.alive()
	for _, w := range waiting {
		if !slices.ContainsFunc(nodes, func(n store.Node) bool { return canRun(&n, w) }) {
			queues[w.Queue] = true
		}
	}
	return queues
}

// canRun reports whether a node works the queue and has the action.
func canRun(n *store.Node, w store.Waiting) bool {
	return (slices.Contains(n.Queues, w.Queue) || slices.Contains(n.Queues, "*")) && slices.Contains(n.Actions, w.Action)
}
