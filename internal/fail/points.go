package fail

// Place describes a point.
type Place struct {
	Name  string // the part or step, and what has just happened there
	When  string // what has been done when the point is reached, and what has not
	Fails bool   // the next step can be made to fail
}

// Points returns the points in the order in which a task reaches them. Each name is used once in the code, so a point
// is one place.
func Points() []Place {
	return []Place{
		{"open.locked", "the store's lock is held; nothing has been read", false},
		{"migrate.step", "a migration of the schema is made; it is not committed", true},
		{"recover.written", "at a start, the tasks of the process that died are queued; this is not committed", true},
		{"recover.committed", "this is committed; the node does not serve yet", false},

		{"line.read", "a line is read and parsed, and not executed yet", false},
		{"blob.put", "a payload is about to be stored", true},
		{"blob.written", "a body is on the disk under a temporary name", true},
		{"blob.linked", "a body has its name; the directory is not synced", true},
		{"payload.stored", "a payload is in blob storage; its task is not in the store", false},
		{"accept.asked", "the store is about to be asked to accept", false},
		{"accept.written", "new tasks are in the transaction; it is not committed", true},
		{"accept.committed", "new tasks are committed; no client has an answer yet", false},
		{"accept.published", "the claimer knows of the new tasks; the client has no answer", false},
		{"accept.unused", "an enqueue found its key taken; its own payload is not deleted yet", false},
		{"accept.answered", "the answer to an enqueue has been sent", false},

		{"commit.before", "any transaction is about to be committed", true},
		{"commit.after", "any transaction is committed; its callers have not been answered", false},

		{"claim.asked", "the store is about to be asked for tasks", false},
		{"claim.written", "a claim is in the transaction; it is not committed", true},
		{"claim.committed", "a claim is committed; no attempt has started", false},
		{"run.loaded", "the payload of an attempt is read from blob storage", false},
		{"run.launched", "an attempt waits for its slot", false},
		{"run.slot", "an attempt has its slot; its action has not started", false},
		{"enter.written", "the starts of actions are in the transaction; it is not committed", true},
		{"run.ended", "an attempt has ended; its outcome is not stored", false},
		{"renew.asked", "leases are about to be renewed", false},
		{"renew.written", "renewed leases are in the transaction; it is not committed", true},
		{"result.put", "a large result is about to be stored", true},
		{"result.stored", "a large result is in blob storage; the outcome is not in the store", false},
		{"record.asked", "the store is about to be asked to record outcomes", false},
		{"record.written", "outcomes are in the transaction; it is not committed", true},
		{"record.committed", "outcomes are committed; no waiting client is notified", false},
		{"record.notified", "waiting clients are notified; tasks that are queued again are not published", false},

		{"push.entered", "a worker's slot is taken for an attempt; the worker has not received it", false},
		{"push.written", "lines, such as a push, are written to a worker", false},
		{"outcome.read", "what a worker sent for an attempt is read; nothing of it is stored", false},
		{"release.asked", "a worker has given an attempt back; the store does not know it", false},
		{"adopt.asked", "the store is about to be asked for the tasks that a worker holds", false},
		{"adopt.written", "adopted tasks are in the transaction; it is not committed", true},
		{"adopt.committed", "adopted tasks are committed; the worker has no answer", false},
		{"abandon.asked", "the store is about to be asked to take back the tasks of a worker that has gone", false},
		{"abandon.written", "the tasks of a worker that has gone are queued; this is not committed", true},
		{"abandon.committed", "this is committed; no worker has them yet", false},

		{"cancel.written", "a cancellation is in the transaction; it is not committed", true},
		{"retry.written", "a retry is in the transaction; it is not committed", true},
		{"change.committed", "a cancellation or retry is committed; no client is notified", false},
		{"cancel.notified", "clients that wait for a cancelled task are notified; the client that cancelled it has no answer", false},
		{"retry.notified", "a retried task is published; the client that retried it has no answer", false},
		{"pause.committed", "a queue is paused or resumed; no client has an answer", false},

		{"maintain.asked", "the store is about to be asked for maintenance", false},
		{"promote.written", "due tasks are promoted; this is not committed", true},
		{"expire.written", "tasks that did not start in time have failed; this is not committed", true},
		{"reap.written", "the tasks of dead nodes are queued; this is not committed", true},
		{"discard.written", "tasks whose keep has ended are deleted; this is not committed", true},
		{"maintain.committed", "maintenance is committed; no client is notified", false},
		{"discard.committed", "the deletion of tasks is committed; their bodies are still there", false},
		{"blob.deleted", "the first of some bodies is deleted", false},
		{"orphans.found", "bodies without a task are found; they are still there", true},

		{"drain.begun", "a drain has begun; attempts run", false},
		{"drain.ended", "a drain has returned its tasks; the store is open", false},
		{"backup.copied", "a backup is written under a temporary name", true},
	}
}
