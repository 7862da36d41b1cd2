package dashboard

import (
	"html/template"
	"net/http"

	"github.com/posta-tasks/posta/task"
)

// queueRow is a queue as its page shows it.
type queueRow struct {
	task.Queue
	Meter template.HTML // the part of all waiting tasks that is in it
}

// queues shows the queues.
func (d *Dashboard) queues(q *request) *task.Error {
	queues, refusal := d.config.Source.Queues(q.ctx())
	if refusal != nil {
		return refusal
	}
	var most int64 = 1
	for _, one := range queues {
		most = max(most, one.Queued)
	}
	rows := make([]queueRow, len(queues))
	for i, one := range queues {
		rows[i] = queueRow{one, meter(float64(one.Queued) / float64(most))}
	}
	q.show(http.StatusOK, "queues", "nav.queues", &frame{Body: rows, Part: "queues"})
	return nil
}

// setPaused returns the handler that pauses or resumes a queue.
func setPaused(paused bool) func(*Dashboard, *request) *task.Error {
	return func(d *Dashboard, q *request) *task.Error {
		name := q.r.PathValue("queue")
		refusal := task.CheckQueue(name)
		if refusal == nil {
			refusal = d.config.Source.Pause(q.ctx(), name, paused)
		}
		if refusal != nil {
			return refusal
		}
		did := "resumed"
		if paused {
			did = "paused"
		}
		q.redirect("queues?did=" + did)
		return nil
	}
}

// nodeRow is a node as its page shows it.
type nodeRow struct {
	task.Node
	Busy, Waiting int
	Known         bool // this process knows how many slots are busy, and does not estimate it
	Meter         template.HTML
}

// workerRow is a worker as its page shows it.
type workerRow struct {
	task.Worker
	Meter template.HTML
}

// nodesBody is the data of the page of nodes and workers.
type nodesBody struct {
	Nodes   []nodeRow
	Workers []workerRow
}

// nodes shows the nodes and the workers.
func (d *Dashboard) nodes(q *request) *task.Error {
	s := d.look(q)
	if s.refusal != nil {
		return s.refusal
	}
	var b nodesBody
	if !d.config.Source.Keeps() {
		for _, name := range sortedKeys(s.latest) {
			c := s.latest[name]
			s.nodes = append(s.nodes, task.Node{Name: name, Slots: c.Slots, Started: c.Started, Actions: d.config.Source.Actions(q.ctx()), Stuck: c.Stuck})
		}
	}
	for i := range s.nodes {
		n := nodeRow{Node: s.nodes[i]}
		n.Busy, n.Waiting = s.busy(&n.Node)
		_, n.Known = s.latest[n.Name]
		n.Meter = meter(float64(n.Busy) / float64(max(1, n.Slots)))
		b.Nodes = append(b.Nodes, n)
	}
	for _, w := range s.workers {
		b.Workers = append(b.Workers, workerRow{w, meter(float64(w.Held) / float64(max(1, w.Slots)))})
	}
	q.show(http.StatusOK, "nodes", "nav.nodes", &frame{Body: b, Part: "nodes"})
	return nil
}

// quiet asks a worker to stop.
func (d *Dashboard) quiet(q *request) *task.Error {
	name := q.r.PathValue("worker")
	refusal := task.CheckText("worker", name)
	if refusal == nil {
		refusal = d.config.Source.Quiet(q.ctx(), name)
	}
	if refusal == nil {
		q.redirect("nodes?did=quiet")
	}
	return refusal
}
