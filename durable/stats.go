package durable

import (
	"sync/atomic"

	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/task"
)

// counts has the values of Stats.
type counts struct {
	accepted, acceptCalls    atomic.Int64
	claimed, claimCalls      atomic.Int64
	claimedByAccept          atomic.Int64
	byIDs, byPoll            atomic.Int64
	recordCalls              atomic.Int64
	done, failed, cancelled  atomic.Int64
	again, released          atomic.Int64
	stale, lost, dropped     atomic.Int64
	reaped, crashed, deleted atomic.Int64
	storeAway                atomic.Int64
}

// count counts a task by the state that it has now.
func (c *counts) count(s task.State) {
	switch s {
	case task.Done:
		c.done.Add(1)
	case task.Failed:
		c.failed.Add(1)
	case task.Cancelled:
		c.cancelled.Add(1)
	case task.Scheduled:
		c.again.Add(1)
	case task.Queued:
		c.released.Add(1)
	case task.Running:
	}
}

// Stats is a snapshot of an engine. Counts are since its start.
type Stats struct {
	Held     int // tasks that the node has, including those whose outcome waits for the store
	Running  int // how many of them run
	Waiting  int // open waits and watches
	Draining bool

	Accepted, Claimed         int64 // tasks
	Done, Failed, Cancelled   int64 // tasks that ended so
	Again, Released           int64 // attempts that will be followed by another; tasks that were released
	Stale                     int64 // outcomes that the store refused because of a newer claim
	Lost, Dropped             int64 // lost leases; attempts that ended after they had lost their lease
	Reaped, Crashed, Deleted  int64 // by this engine: tasks reaped, tasks failed as crashed, tasks deleted after their keep
	AcceptCalls, ClaimCalls   int64 // successful calls of the store
	RecordCalls, StoreRefused int64 // StoreRefused: calls that the store did not answer
	StoreOutages, BlobOutages int64 // number of outages
	BrokerOutages             int64
	ClaimsByIDs, ClaimsByPoll int64 // claims by hints; claims of the next tasks

	ByQueue    map[string]QueueStats // by queue; queues beyond task.MaxQueues are counted together
	WaitBounds []float64             // seconds

	Mailbox mailbox.Stats // counts of the broker
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats {
	c := &e.counts
	var sent mailbox.Stats
	brokerOutages := int64(0)
	if e.config.Broker != nil {
		brokerOutages = e.config.Broker.Stats().Outages
	}
	_, storeOutages := e.outages.store.State()
	_, blobOutages := e.outages.blobs.State()
	if e.mailbox != nil {
		sent = e.mailbox.Stats()
	}
	return Stats{
		Held: len(e.attempts.All()), Running: e.attempts.Entered(), Waiting: e.subs.Len(), Draining: e.draining.Load(),
		Accepted: c.accepted.Load(), Claimed: c.claimed.Load() + c.claimedByAccept.Load(),
		Done: c.done.Load(), Failed: c.failed.Load(), Cancelled: c.cancelled.Load(),
		Again: c.again.Load(), Released: c.released.Load(), Stale: c.stale.Load(),
		Lost: c.lost.Load(), Dropped: c.dropped.Load(),
		Reaped: c.reaped.Load(), Crashed: c.crashed.Load(), Deleted: c.deleted.Load(),
		AcceptCalls: c.acceptCalls.Load(), ClaimCalls: c.claimCalls.Load(),
		RecordCalls: c.recordCalls.Load(), StoreRefused: c.storeAway.Load(),
		StoreOutages: storeOutages, BlobOutages: blobOutages, BrokerOutages: brokerOutages,
		ClaimsByIDs: c.byIDs.Load(), ClaimsByPoll: c.byPoll.Load(), Mailbox: sent,
		ByQueue: e.byQueue.snapshot(), WaitBounds: waitSeconds(),
	}
}

func waitSeconds() (list []float64) {
	for _, bound := range waitBounds() {
		list = append(list, bound.Seconds())
	}
	return list
}
