package doctor

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// queues checks whether there are tasks that no node can run.
func (s System) queues(ctx context.Context, _ string) []Finding {
	var answer struct{ Queues []client.Queue }
	if err := s.read(ctx, "/v1/queues", &answer); errors.Is(err, errNoStore) {
		return nil
	} else if err != nil {
		return []Finding{fault(s.hint(err), "the queues are not known: %s", plain(err))}
	}
	var found []Finding
	for _, q := range answer.Queues {
		if q.Unserved {
			found = append(found, s.unserved(ctx, q)...)
		}
		if q.Paused && q.Queued > 0 {
			found = append(found, doubt("posta resume "+q.Queue, "%s is paused; %s in it", q.Queue, amount(int(q.Queued), "queued task")))
		}
	}
	if len(answer.Queues) == 0 {
		return []Finding{good("there is none yet")}
	}
	if len(found) == 0 {
		return []Finding{good("%s; every task has a node that can run it", amount(len(answer.Queues), "queue"))}
	}
	return found
}

// unserved returns which tasks of a queue wait for an action that no node has, and which wait for a node that works
// the queue.
func (s System) unserved(ctx context.Context, q client.Queue) []Finding {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return []Finding{fault(s.hint(err), "the nodes are not known: %s", plain(err))}
	}
	waiting, err := s.waiting(ctx, q.Queue)
	if err != nil {
		return []Finding{fault(s.hint(err), "the tasks of %s are not known: %s", q.Queue, plain(err))}
	}
	var found []Finding
	for _, action := range slices.Sorted(maps.Keys(waiting)) {
		has := func(n Node) bool { return slices.Contains(n.Actions, action) }
		works := func(n Node) bool { return slices.Contains(n.Queues, q.Queue) || slices.Contains(n.Queues, "*") }
		tasks := amount(waiting[action], action+" task") + " of queue " + q.Queue
		cancel := "or cancel them: posta cancel --queue " + q.Queue + " --action " + action
		switch {
		case slices.ContainsFunc(nodes, func(n Node) bool { return has(n) && works(n) }):
		case !slices.ContainsFunc(nodes, has):
			found = append(found, doubt("start a node that has the action, "+cancel, "%s can be run by no node: none has the action", tasks))
		case !slices.ContainsFunc(nodes, works):
			found = append(found, doubt("start a node whose --queues have "+q.Queue+", "+cancel, "%s can be run by no node: none works the queue", tasks))
		default:
			found = append(found, doubt("start a node that has both, "+cancel, "%s can be run by no node: those with the action do not work the queue", tasks))
		}
	}
	if len(found) == 0 {
		return []Finding{doubt("ask again in a moment; `posta list --queue "+q.Queue+"` shows them", "of the tasks that wait in %s some can be run by no node", q.Queue)}
	}
	return found
}

// maxPages is how many pages of tasks in each state are counted.
const maxPages = 50

// waiting counts the scheduled and queued tasks of a queue by action. It sees the newest 10,000 of each state.
func (s System) waiting(ctx context.Context, queue string) (map[string]int, error) {
	counts := map[string]int{}
	for _, state := range []task.State{task.Scheduled, task.Queued} {
		cursor := ""
		for range maxPages {
			var page struct {
				Tasks  []struct{ Action string }
				Cursor string
			}
			query := url.Values{"limit": {"200"}, "status": {string(state)}, "queue": {queue}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			if err := s.read(ctx, "/v1/tasks?"+query.Encode(), &page); err != nil {
				return nil, err
			}
			for _, t := range page.Tasks {
				counts[t.Action]++
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
	}
	return counts, nil
}
