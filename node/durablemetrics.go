package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// queuesPatience is how long a scrape waits for the store. If the store does not answer in
// time, the scrape has no queues.
const queuesPatience = 2 * time.Second

// durableStats returns the counters of the engine, and the queues if the store answers.
func (n *Node) durableStats() (durable.Stats, []durable.Queue) {
	ctx, cancel := context.WithTimeout(context.Background(), queuesPatience)
	defer cancel()
	queues, refusal := n.durable.Queues(ctx)
	if refusal != nil {
		n.log.Debug("the queues are not in the metrics", "error", refusal)
	}
	return n.durable.Stats(), queues
}

// durableTable returns the additional metrics of a node with a store. Every node reports all
// queues of the store, at most task.MaxQueues.
func durableTable() []metric {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	count := func(of func(s *durable.Stats) int64) func(*snapshot, emit) {
		return func(s *snapshot, emit emit) { emit(float64(of(&s.kept))) }
	}
	return []metric{
		{"posta_durable_accepted_total", "Durable tasks that this node has accepted.", counter, nil, count(func(s *durable.Stats) int64 { return s.Accepted })},
		{"posta_durable_claimed_total", "Durable tasks that this node has claimed.", counter, nil, count(func(s *durable.Stats) int64 { return s.Claimed })},
		{"posta_durable_ended_total", "Durable tasks that this node has ended, by queue and state.", counter, []string{"queue", "state"}, durableEnded},
		{"posta_durable_again_total", "Failed attempts after which the task waits for another attempt.", counter, nil, count(func(s *durable.Stats) int64 { return s.Again })},
		{"posta_durable_released_total", "Durable tasks that were released or queued again.", counter, nil, count(func(s *durable.Stats) int64 { return s.Released })},
		{"posta_durable_stale_total", "Outcomes that the store refused, since another attempt had begun.", counter, nil, count(func(s *durable.Stats) int64 { return s.Stale })},
		{"posta_durable_leases_lost_total", "Leases of this node that were lost.", counter, nil, count(func(s *durable.Stats) int64 { return s.Lost })},
		{"posta_durable_reaped_total", "Durable tasks that this node has taken over from dead nodes.", counter, nil, count(func(s *durable.Stats) int64 { return s.Reaped })},
		{"posta_durable_crashed_total", "Durable tasks that this node has failed because they killed processes too often.", counter, nil, count(func(s *durable.Stats) int64 { return s.Crashed })},
		{"posta_durable_deleted_total", "Finished tasks that this node has deleted after their keep.", counter, nil, count(func(s *durable.Stats) int64 { return s.Deleted })},
		{"posta_durable_store_calls_total", "Calls of the store that succeeded, by purpose.", counter, []string{"call"}, storeCalls},
		{"posta_durable_claims_total", "Claims by kind: of ids from the broker, or of the next tasks in the store.", counter, []string{"of"}, claimsOf},
		{"posta_durable_hints_total", "Ids of queued tasks: published, dropped because the mailbox was full, or taken from the broker.", counter, []string{"was"}, hintsWere},
		{"posta_durable_events_total", "Events: sent to other processes, or missed.", counter, []string{"was"}, eventsWere},
		{"posta_durable_store_refused_total", "Calls that the store did not answer.", counter, nil, count(func(s *durable.Stats) int64 { return s.StoreRefused })},
		{"posta_durable_outages_total", "How many times a part has stopped answering, by part.", counter, []string{"part"}, outages},
		{"posta_durable_held", "Durable tasks that this node holds, including those whose outcome waits for the store.", gauge, nil, count(func(s *durable.Stats) int64 { return int64(s.Held) })},
		{"posta_durable_running", "Durable tasks that run on this node.", gauge, nil, count(func(s *durable.Stats) int64 { return int64(s.Running) })},
		{"posta_durable_waits_open", "Open waits and watches.", gauge, nil, count(func(s *durable.Stats) int64 { return int64(s.Waiting) })},
		{"posta_queue_tasks", "Tasks of a queue that are not done or cancelled, by state.", gauge, []string{"queue", "state"}, queueTasks},
		{"posta_queue_oldest_seconds", "How long the oldest queued task has been due.", gauge, []string{"queue"}, queueOldest},
		{"posta_queue_accepted_total", "Tasks that a queue has accepted, on all nodes.", counter, []string{"queue"}, perQueue(func(q *durable.Queue) float64 { return float64(q.Accepted) })},
		{"posta_queue_finished_total", "Tasks of a queue that have ended, on all nodes.", counter, []string{"queue"}, perQueue(func(q *durable.Queue) float64 { return float64(q.Finished) })},
		{"posta_queue_paused", "Whether a queue is paused.", gauge, []string{"queue"}, perQueue(func(q *durable.Queue) float64 { return oneIf(q.Paused) })},
		{"posta_queue_unserved", "Whether a queue has scheduled or queued tasks that no live node can run.", gauge, []string{"queue"}, perQueue(func(q *durable.Queue) float64 { return oneIf(q.Unserved) })},
	}
}

func outages(s *snapshot, emit emit) {
	emit(float64(s.kept.StoreOutages), "store")
	emit(float64(s.kept.BlobOutages), "blobs")
	emit(float64(s.kept.BrokerOutages), "broker")
}

func durableEnded(s *snapshot, emit emit) {
	for name, q := range s.kept.ByQueue {
		emit(float64(q.Done), name, string(task.Done))
		emit(float64(q.Failed), name, string(task.Failed))
		emit(float64(q.Cancelled), name, string(task.Cancelled))
	}
}

func storeCalls(s *snapshot, emit emit) {
	emit(float64(s.kept.AcceptCalls), "accept")
	emit(float64(s.kept.ClaimCalls), "claim")
	emit(float64(s.kept.RecordCalls), "record")
}

func claimsOf(s *snapshot, emit emit) {
	emit(float64(s.kept.ClaimsByIDs), "ids")
	emit(float64(s.kept.ClaimsByPoll), "next")
}

func hintsWere(s *snapshot, emit emit) {
	emit(float64(s.kept.Mailbox.Published), "published")
	emit(float64(s.kept.Mailbox.Dropped), "dropped")
	emit(float64(s.kept.Mailbox.Taken), "taken")
}

func eventsWere(s *snapshot, emit emit) {
	emit(float64(s.kept.Mailbox.Sent), "told")
	emit(float64(s.kept.Mailbox.Missed), "missed")
}

func queueTasks(s *snapshot, emit emit) {
	for i := range s.queue {
		q := &s.queue[i]
		emit(float64(q.Scheduled), q.Name, string(task.Scheduled))
		emit(float64(q.Queued), q.Name, string(task.Queued))
		emit(float64(q.Running), q.Name, string(task.Running))
		emit(float64(q.Failed), q.Name, string(task.Failed))
	}
}

func queueOldest(s *snapshot, emit emit) {
	for i := range s.queue {
		emit(s.queue[i].OldestAge.Seconds(), s.queue[i].Name)
	}
}

// perQueue returns a function that emits one value per queue.
func perQueue(of func(q *durable.Queue) float64) func(*snapshot, emit) {
	return func(s *snapshot, emit emit) {
		for i := range s.queue {
			emit(of(&s.queue[i]), s.queue[i].Name)
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
