package check

import (
	"slices"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// lost: every acknowledged task is in the store.
func (e *evidence) lost() {
	for _, event := range e.Clients {
		switch {
		case event.Kind == history.OK && event.Reply.Task != "" && e.records[event.Reply.Task] == nil:
			e.say(event.Reply.Task, "was answered as %s to request %d, and is not in the store", event.Reply.Status, event.ID)
		case event.Kind == history.Fail && event.Reply.Code == "not_found":
			e.say(event.Reply.Task, "was acknowledged, and was answered as not found to request %d", event.ID)
		}
	}
}

// unfinished: after the faults, every task reaches a final state.
func (e *evidence) unfinished() {
	if !e.About.Drained {
		e.say("", "the time for that was over")
	}
	for i := range e.Store {
		if r := &e.Store[i]; !isFinal(r.Status) {
			e.say(r.Task, "(%s) is %s", r.Action, r.Status)
		}
	}
}

// follows reports whether a state may come after another.
func follows(from, to string) bool {
	switch from {
	case "":
		return to == "scheduled" || to == "queued"
	case "scheduled":
		return to == "queued" || (isFinal(to) && to != "done")
	case "queued":
		return to == "running" || (isFinal(to) && to != "done")
	case "running":
		return to != "running"
	}
	return to == "queued" // by hand
}

// generations counts the retries in a history.
func generations(r *history.Record) (n int) {
	for i := 1; i < len(r.Entries); i++ {
		if isFinal(r.Entries[i-1].Status) {
			n++
		}
	}
	return n
}

// paths: each entry of a history follows from the one before.
func (e *evidence) paths() {
	for i := range e.Store {
		if r := &e.Store[i]; len(r.Entries) > 0 {
			e.path(r)
		}
	}
}

func (e *evidence) path(r *history.Record) {
	var last history.Entry
	for _, entry := range r.Entries {
		attempt := last.Attempt
		if entry.Status == "running" {
			attempt++
		} else if isGivenBack(r, &last, &entry) {
			attempt--
		}
		switch {
		case entry.Seq != last.Seq+1:
			e.say(r.Task, "has entry %d after entry %d", entry.Seq, last.Seq)
		case !follows(last.Status, entry.Status):
			e.say(r.Task, "went from %q to %q (entry %d)", last.Status, entry.Status, entry.Seq)
		case entry.Attempt != attempt:
			e.say(r.Task, "is %s as attempt %d in entry %d, after attempt %d", entry.Status, entry.Attempt, entry.Seq, last.Attempt)
		}
		last = entry
	}
	if last.Status != r.Status || last.Attempt != r.Attempt || generations(r) != r.Generation {
		e.say(r.Task, "is %s, attempt %d, generation %d, and its history ends %s, attempt %d, generation %d",
			r.Status, r.Attempt, r.Generation, last.Status, last.Attempt, generations(r))
	}
}

// retries: a task leaves a final state as often as clients asked for it. The retry of a scheduled task queues it at
// once in its generation.
func (e *evidence) retries() {
	for i := range e.Store {
		r := &e.Store[i]
		most, least := 0, 0
		for _, ask := range e.asked[r.Task] {
			if ask.Ask.Op != "retry" || e.refused(ask.ID) {
				continue
			}
			most++
			for _, x := range e.replies[ask.ID] {
				if x.Kind == history.OK && x.Reply.Generation != nil {
					least = max(least, *x.Reply.Generation)
				}
			}
		}
		if n := generations(r); n < least || n > most {
			e.say(r.Task, "has left an end %d times; the answers to %d retries name generation %d", n, most, least)
		}
	}
}

// wasCancelled reports whether a task was cancelled at some time: since then it has no claim to its key.
func (e *evidence) wasCancelled(task string) bool {
	r := e.records[task]
	return r != nil && slices.ContainsFunc(r.Entries, func(entry history.Entry) bool { return entry.Status == "cancelled" })
}

// phantoms: every task was requested once and not refused; every reply was requested.
func (e *evidence) phantoms() {
	nonces := map[string]string{}
	for i := range e.Store {
		r := &e.Store[i]
		nonce := payload(r).Nonce
		asks := e.byNonce[nonce]
		fits := func(a *history.Ask) bool { return a.Action == r.Action && a.Queue == r.Queue && a.Key == r.Key }
		switch {
		case !slices.ContainsFunc(asks, fits):
			e.say(r.Task, "(%s, queue %s, key %q, nonce %q) was not asked for", r.Action, r.Queue, r.Key, nonce)
		case nonces[nonce] != "" && (r.Key == "" || !e.wasCancelled(nonces[nonce]) && !e.wasCancelled(r.Task)):
			e.say(r.Task, "was asked for once, and is there as %s, too", nonces[nonce])
		}
		nonces[nonce] = r.Task
	}
	refused := map[string]bool{} // by nonce: every request for it
	for id, ask := range e.asks {
		if ask.Ask.Op == "enqueue" {
			before, seen := refused[ask.Ask.Nonce]
			refused[ask.Ask.Nonce] = e.refused(id) && (before || !seen)
		}
	}
	for nonce, all := range refused {
		if all && nonces[nonce] != "" {
			e.say(nonces[nonce], "is there, though its enqueue was refused")
		}
	}
	for i := range e.Clients {
		if event := &e.Clients[i]; event.Kind == history.Stray {
			e.say("", "connection %d received what it did not request: %s", event.Conn, event.Note)
		}
	}
}

// keys: there is one task for each key, except cancelled ones, and it is the requested one.
func (e *evidence) keys() {
	type key struct{ queue, key string }
	tasks := map[key]string{}
	one := func(k key, task string) {
		if first := tasks[k]; first != "" && first != task && !e.wasCancelled(first) && !e.wasCancelled(task) {
			e.say(task, "has key %q of queue %s, and so has %s", k.key, k.queue, first)
			return
		}
		tasks[k] = task
	}
	for i := range e.Store {
		if r := &e.Store[i]; r.Key != "" {
			one(key{r.Queue, r.Key}, r.Task)
		}
	}
	for i := range e.Clients {
		event := &e.Clients[i]
		if event.Kind != history.OK || e.op(event) != "enqueue" {
			continue
		}
		ask := e.asks[event.ID].Ask
		if ask.Key != "" {
			one(key{ask.Queue, ask.Key}, event.Reply.Task)
		}
		if r := e.records[event.Reply.Task]; r != nil && payload(r).Nonce != ask.Nonce {
			e.say(r.Task, "(nonce %q) is the answer to request %d for nonce %q", payload(r).Nonce, event.ID, ask.Nonce)
		}
	}
}
