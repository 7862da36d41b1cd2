package checkup

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/client"
)

// queues looks for tasks that nobody can run.
func (s System) queues(ctx context.Context) []Finding {
	var answer struct{ Queues []client.Queue }
	if err := s.read(ctx, "/v1/queues", &answer); errors.Is(err, errNoStore) {
		return nil
	} else if err != nil {
		return []Finding{Fault("see above", "the queues are not known: %s", err)}
	}
	var found []Finding
	for _, q := range answer.Queues {
		switch {
		case q.Unserved:
			found = append(found, s.unserved(ctx, q))
		case q.Paused && q.Queued > 0:
			found = append(found, Doubt("posta resume "+q.Queue, "%s is paused, and %s wait", q.Queue, amount(int(q.Queued), "task")))
		}
	}
	if len(answer.Queues) == 0 {
		return []Finding{Good("there is none yet")}
	}
	if len(found) == 0 {
		return []Finding{Good("none of %s waits for a node or an action", amount(len(answer.Queues), "queue"))}
	}
	return found
}

// unserved says what a queue waits for: an action that no node has, or a node.
func (s System) unserved(ctx context.Context, q client.Queue) Finding {
	lacking, err := s.lacking(ctx, q.Queue)
	if err != nil || len(lacking) == 0 {
		return Doubt("start a node whose --queues have it", "of %s in %s some can be run by no node, or no node works the queue", amount(int(q.Queued), "task"), q.Queue)
	}
	return Doubt("start a node that has the action and whose --queues have "+q.Queue+", or cancel them: posta list --queue "+q.Queue,
		"of %s in %s some are of an action that no node has: %s", amount(int(q.Queued), "task"), q.Queue, strings.Join(lacking, ", "))
}

// lacking gives the actions of queued tasks, as far as a page of the newest shows them, that no node has.
func (s System) lacking(ctx context.Context, queue string) ([]string, error) {
	nodes, err := s.registered(ctx)
	if err != nil {
		return nil, err
	}
	var page struct {
		Tasks []struct{ Action string }
	}
	if err := s.read(ctx, "/v1/tasks?limit=200&status=queued&queue="+url.QueryEscape(queue), &page); err != nil {
		return nil, err
	}
	there, lacks := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		for _, action := range n.Actions {
			there[action] = true
		}
	}
	for _, t := range page.Tasks {
		if !there[t.Action] {
			lacks[t.Action] = true
		}
	}
	return slices.Sorted(maps.Keys(lacks)), nil
}
