package check

import (
	"slices"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// resurrections: after a final state was answered to a client, the task does not start unless a client retries it.
func (e *evidence) resurrections() {
	for task, events := range e.about {
		for _, event := range events {
			if isFinal(event.Reply.Status) {
				e.resurrection(task, event)
			}
		}
	}
}

// resurrection returns a start after an answer.
func (e *evidence) resurrection(task string, event *history.Event) {
	answeredAt := e.wall(event)
	r := e.records[task]
	for _, x := range e.journal[task] {
		// A worker that was stopped for a while may begin what was pushed before.
		late := r != nil && isRemote(r) && x.Attempt <= event.Reply.Attempt
		if x.How == history.Start && x.At > answeredAt && !late && !e.retriedBefore(task, x.At) {
			e.say(task, "was answered as %s to request %d, and attempt %d started afterwards", event.Reply.Status, event.ID, x.Attempt)
		}
	}
}

// retriedBefore reports whether a client may have retried a task before a time.
func (e *evidence) retriedBefore(task string, at int64) bool {
	return slices.ContainsFunc(e.asked[task], func(ask *history.Event) bool {
		return ask.Ask.Op == "retry" && e.wall(ask) < at && !e.refused(ask.ID)
	})
}

// cancelling: an attempt that was asked to stop is the last one.
func (e *evidence) cancelling() {
	for task, events := range e.about {
		r := e.records[task]
		for _, event := range events {
			if r == nil || event.Reply.Status != "cancelling" {
				continue
			}
			entry := e.after(r, e.wall(e.asks[event.ID]), e.wall(event))
			if entry != nil && (!isFinal(entry.Status) || entry.Status == "failed") && !e.claimedAgain(r, entry, e.wall(event)) {
				e.say(task, "was answered as cancelling to request %d, and became %s (entry %d)", event.ID, entry.Status, entry.Seq)
			}
		}
	}
}

// claimedAgain reports whether a cancel that was answered later may have found a later claim of the task: the history does
// not have a claim whose action was not entered. Then the task went from queued to cancelled.
func (e *evidence) claimedAgain(r *history.Record, entry *history.Entry, answered int64) bool {
	i := slices.IndexFunc(r.Entries, func(other history.Entry) bool { return other.Seq == entry.Seq })
	return entry.Status == "queued" && clock(entry) < answered && i+1 < len(r.Entries) && r.Entries[i+1].Status == "cancelled"
}

// after returns the entry with which the attempt ended that ran at some moment between two times;
// nil when there is no such attempt, or there are several.
func (e *evidence) after(r *history.Record, from, to int64) (found *history.Entry) {
	for i := 1; i < len(r.Entries); i++ {
		before, entry := &r.Entries[i-1], &r.Entries[i]
		began, ended := clock(before), clock(entry)
		if before.Status != "running" || began > to || (ended != 0 && ended < from) {
			continue
		}
		if found != nil {
			return nil
		}
		found = entry
	}
	return found
}

// clock is an entry's time in Unix nanoseconds; the last entry of a history has none. It is rounded down
// to a millisecond, so that the end of an attempt is that of its millisecond.
func clock(entry *history.Entry) int64 {
	at, err := time.Parse(time.RFC3339, entry.At)
	if err != nil {
		return 0
	}
	return at.UnixNano() + int64(time.Millisecond)
}

// claims: each execution has its own claim, and each done task was started.
func (e *evidence) claims() {
	for task, list := range e.journal {
		r := e.records[task]
		if r == nil {
			e.say(task, "was started %d times, and the store does not have it", len(list))
			continue
		}
		started := map[int]int{}
		for _, x := range list {
			if x.How != history.Start {
				continue
			}
			if started[x.Attempt]++; started[x.Attempt] == 2+givenBack(r, x.Attempt) {
				e.say(task, "attempt %d was started twice", x.Attempt)
			}
			if len(r.Entries) > 0 && !e.claimed(r, x.Attempt) {
				e.say(task, "attempt %d was started, and its history has no claim of it", x.Attempt)
			}
		}
	}
	for i := range e.Store {
		r := &e.Store[i]
		done := func(x *history.Execution) bool { return x.Attempt == r.Attempt && x.How == history.Done }
		if r.Status == "done" && r.Action != "upper" && !slices.ContainsFunc(e.journal[r.Task], done) {
			e.say(r.Task, "is done by attempt %d, which has not succeeded", r.Attempt)
		}
	}
}

func (e *evidence) claimed(r *history.Record, attempt int) bool {
	return slices.ContainsFunc(r.Entries, func(entry history.Entry) bool {
		return entry.Status == "running" && entry.Attempt == attempt
	})
}

// fails returns how often an action may fail.
func fails(r *history.Record) (most int) {
	p := payload(r)
	switch deed(r) {
	case "flaky":
		return p.Fails
	case "refuse":
		return 1
	case "panic", "goexit", "hang":
		return p.Attempts
	case "big":
		if p.Bytes > history.Inline || p.Fill != "" { // whenever blob storage is away
			return p.Attempts
		}
	}
	return 0
}

// failures: an attempt counts as failed only if its action failed, and a task fails only after as many failures as
// it may have. Crashes and drains do not count.
func (e *evidence) failures() {
	for i := range e.Store {
		r := &e.Store[i]
		failed, before := 0, ""
		for _, entry := range r.Entries {
			switch {
			case isFinal(before): // a client retried it
				failed = 0
			case before == "running" && (entry.Status == "scheduled" || entry.Status == "failed"):
				failed++
			}
			before = entry.Status
			if failed > fails(r) && r.Code != "crashed" {
				e.say(r.Task, "(%s) has failed %d times by entry %d, and its action only %d times", r.Action, failed, entry.Seq, fails(r))
				break
			}
		}
		p := payload(r)
		exhausted := r.Code == "action_failed" || r.Code == "timed_out"
		if r.Status == "failed" && exhausted && deed(r) != "refuse" && failed != p.Attempts {
			e.say(r.Task, "(%s) is failed after %d failures; %d are allowed", r.Action, failed, p.Attempts)
		}
	}
}

// quiet is how long, at least, no process has started when a task in quarantine is claimed: a lease, less the time
// until a start is known.
const quiet = 10 * time.Second

// mistaken reports whether an innocent task failed as crashed because the run killed its process while the task ran alone
// after the quiet period. No store can tell that from a poison task (docs/adr/0012).
func (e *evidence) mistaken(r *history.Record) bool {
	list := e.journal[r.Task]
	if len(list) == 0 || list[len(list)-1].How != history.Start {
		return false // its last attempt ended
	}
	last := list[len(list)-1]
	within := func(from, to int64) func(o history.Occurrence) bool {
		return func(o history.Occurrence) bool {
			return o.What == history.Up && o.Worker == isRemote(r) && o.At > from && o.At < to
		}
	}
	killed := func(o history.Occurrence) bool {
		return o.What == history.Death && o.PID == last.PID && o.At > last.At && o.At < last.At+int64(time.Minute) && e.struck(&o)
	}
	return slices.ContainsFunc(e.Happened, killed) && !slices.ContainsFunc(e.Happened, within(last.At-int64(quiet), last.At))
}

// struck reports whether a fault of the schedule caused a death.
func (e *evidence) struck(death *history.Occurrence) bool {
	const before = 10 * time.Second // a kill may wait for its moment
	return slices.ContainsFunc(e.Happened, func(o history.Occurrence) bool {
		return (o.What == "kill" || o.What == "kill-at" || o.What == "worker-kill") && o.Target == death.Target && o.At <= death.At && o.At > death.At-int64(before)
	})
}

// crashes: a poison task fails as crashed, and no other task does.
func (e *evidence) crashes() {
	for i := range e.Store {
		r := &e.Store[i]
		poison := deed(r) == "kill"
		switch {
		case r.Code == "crashed" && !poison && !e.mistaken(r):
			e.say(r.Task, "(%s) is innocent, and has failed as crashed", r.Action)
		case poison && isFinal(r.Status) && r.Code != "crashed":
			e.say(r.Task, "kills its process, and is %s (%s)", r.Status, r.Code)
		}
	}
}
