package durable

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// acceptMost is the largest number of tasks in one Accept of the store, so that the first callers need not wait
// until all tasks are written.
const acceptMost = 1_024

// Request is a task to enqueue.
type Request struct {
	Action  string
	Payload []byte // raw JSON; nil means null. It is copied
	// Upload is a payload that is stored already, whose id becomes that of the task; nil: the payload is Payload.
	Upload *Upload
	// Options may have zero fields. They mean the defaults of Config, or else those of package task.
	Options task.Options
}

// Accepted is the answer to a Request.
type Accepted struct {
	Task      task.Task // the current task; for a refusal at most its ID
	Duplicate bool      // there was a task with the key and the same request
	Warning   string    // for people: why the task may wait long
	// Refusal says why the task was not accepted: invalid_request if it would expire before it may start;
	// overloaded, key_conflict, unavailable, draining or payload_too_large; for an Upload also invalid_request if
	// it does not exist, and conflict if it is the payload of another task; or unknown_outcome if the task may have
	// been accepted.
	Refusal *task.Error
}

// acceptor accepts tasks. Calls that arrive while the store is busy share its next call.
type acceptor struct {
	*core
	capacity  *capacity
	claimer   *claimer
	launcher  *launcher
	publisher *publisher
	registry  *registry
	bodies    bodies
	mailbox   *mailbox.Mailbox // nil without a broker

	shared *batch.Batcher[task.Task, store.Accepted]
	starts batch.Gate // for calls that may claim tasks; a drain waits for them
	ids    ids
}

// Accept accepts tasks, and returns when they are on stable storage. The answers are in the order of the tasks.
// Each task is accepted or refused by itself. The doors check the values of single options.
func (e *Engine) Accept(ctx context.Context, list []Request) []Accepted {
	return e.acceptor.accept(ctx, list)
}

// accept implements Engine.Accept.
func (a *acceptor) accept(ctx context.Context, list []Request) []Accepted {
	answers := make([]Accepted, len(list))
	tasks, places := make([]task.Task, 0, len(list)), make([]int, 0, len(list))
	for i := range list {
		t, refusal := a.prepare(ctx, &list[i])
		if refusal != nil {
			answers[i].Refusal = refusal
			continue
		}
		tasks, places = append(tasks, t), append(places, i)
	}
	if len(tasks) == 0 {
		return answers
	}
	stored, err := a.shared.Ask(ctx, tasks)
	for n, i := range places {
		if err != nil {
			answers[i] = notAccepted(tasks[n].ID, a.refusalOf(err))
		} else {
			answers[i] = a.answer(&tasks[n], &stored[n])
			if answers[i].Task.ID != tasks[n].ID && list[i].Upload == nil {
				a.bodies.Drop(ctx, &tasks[n])
			}
		}
	}
	return answers
}

// prepare returns the task to store.
func (a *acceptor) prepare(ctx context.Context, asked *Request) (task.Task, *task.Error) {
	if a.draining.Load() {
		return task.Task{}, refuseDraining("")
	}
	id, err := a.ids.next(a.storeNow())
	if err != nil {
		return task.Task{}, task.Refuse(task.Internal, "no id could be made: %v", err)
	}
	options, refusal := a.complete(asked.Options)
	if refusal != nil {
		return task.Task{}, refusal
	}
	t := task.Task{ID: id, Action: asked.Action, Options: options}
	switch {
	case asked.Upload != nil:
		if refusal := a.bodies.CheckUpload(ctx, asked.Upload); refusal != nil {
			return task.Task{}, refusal
		}
		t.ID, t.Payload = asked.Upload.Task, asked.Upload.Body
	case asked.Payload == nil:
		t.Payload.Inline = []byte("null")
	case len(asked.Payload) <= task.InlineBytes:
		t.Payload.Inline = bytes.Clone(asked.Payload)
	default:
		if t.Payload, refusal = a.bodies.PutPayload(ctx, id, bytes.NewReader(asked.Payload)); refusal != nil {
			return task.Task{}, refusal
		}
	}
	return t, nil
}

// complete sets the options that are missing, and refuses options with which the task could never start.
func (a *acceptor) complete(asked task.Options) (task.Options, *task.Error) {
	asked.Queue = cmp.Or(asked.Queue, task.DefaultQueue)
	asked.Complete(a.config.Defaults[asked.Queue], a.config.Defaults["*"])
	if asked.ExpiresIn > 0 && !asked.RunAt.IsZero() && !asked.RunAt.Before(a.storeNow().Add(asked.ExpiresIn)) {
		return asked, task.RefuseField(task.InvalidRequest, "expires", "the task could never start: run_at is not before it expires")
	}
	return asked, nil
}

// notAccepted returns the answer for an error of the store. It has an id only if there may be a task with that id.
func notAccepted(id string, refusal *task.Error) Accepted {
	if refusal.Code != task.UnknownOutcome {
		return Accepted{Refusal: refusal}
	}
	own := *refusal
	own.Task = id
	return Accepted{Task: task.Task{ID: id}, Refusal: &own}
}

// answer converts the answer of the store.
func (a *acceptor) answer(asked *task.Task, stored *store.Accepted) Accepted {
	switch {
	case stored.Refusal != nil:
		return notAccepted(asked.ID, stored.Refusal)
	case stored.Duplicate && stored.Task.ID != asked.ID && !stored.SameRequest:
		refusal := task.RefuseField(task.KeyConflict, "key",
			"the key %q belongs to task %s, whose action or payload is another", asked.Key, stored.Task.ID)
		refusal.Task = stored.Task.ID
		return Accepted{Task: task.Task{ID: stored.Task.ID}, Refusal: refusal}
	case stored.Duplicate && stored.Task.ID == asked.ID && !stored.SameRequest:
		refusal := task.RefuseField(task.Conflict, "payload_blob",
			"the blob is the payload of task %s already, whose action is another; upload it again", asked.ID)
		refusal.Task, refusal.State = asked.ID, string(stored.Task.State)
		return Accepted{Task: task.Task{ID: asked.ID}, Refusal: refusal}
	}
	if stored.Duplicate && stored.Task.ID != asked.ID {
		return Accepted{Task: stored.Task, Duplicate: true, Warning: a.registry.warning(&stored.Task)}
	}
	return Accepted{Task: stored.Task, Warning: a.registry.warning(&stored.Task)}
}

// acceptAll accepts the tasks of all waiting callers in one call of the store. It refuses only the faulty tasks.
func (a *acceptor) acceptAll(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	fail.Point("accept.asked")
	claims := a.reserve(tasks)
	defer claims.release()
	a.offerEarly(tasks)
	answers, again := make([]store.Accepted, len(tasks)), false
	errs := batch.Isolate(ctx, len(tasks), errUnknown(), func(from, to int) error {
		again = again || to-from < len(tasks) // a failed call may have stored some of the tasks
		some, repeated, err := a.acceptCall(ctx, tasks[from:to])
		again = again || repeated
		copy(answers[from:to], some)
		return err
	})
	for i, err := range errs {
		if err != nil {
			a.blame("accept", tasks[i].ID, err)
			answers[i] = store.Accepted{Refusal: a.refusalOf(err)}
		}
	}
	claims.add(tasks, answers, again)
	if errs != nil {
		a.counts.storeAway.Add(1)
	}
	if isAway(errs) {
		return nil, errs[0]
	}
	a.publishAccepted(tasks, answers)
	return answers, nil
}

// acceptCall calls the store. If the answer to the commit is lost within a short time, it calls once more, since
// the ids show whether the tasks were stored; then repeated is true.
func (a *acceptor) acceptCall(ctx context.Context, tasks []task.Task) (answers []store.Accepted, repeated bool, err error) {
	timeout := storeTimeout
	if a.config.Shared {
		timeout = acceptTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers, err = a.config.Store.Accept(ctx, tasks)
	if end, _ := ctx.Deadline(); task.CodeOf(err) == task.UnknownOutcome && time.Until(end) > acceptTimeout/2 {
		repeated = true
		if again, err2 := a.config.Store.Accept(ctx, tasks); err2 == nil {
			answers, err = again, nil
		}
	}
	return answers, repeated, err
}

// offerEarly lets engines of this process claim while the store accepts, since a claim in the same commit saves a
// commit. A store that other processes use does not share commits this way.
func (a *acceptor) offerEarly(tasks []task.Task) {
	if a.mailbox != nil || a.config.Beat < Beat {
		return
	}
	now := a.storeNow()
	due := make([]*task.Task, 0, len(tasks))
	for i := range tasks {
		if tasks[i].Node == "" && tasks[i].Delay == 0 && !tasks[i].RunAt.After(now) {
			due = append(due, &tasks[i])
		}
	}
	if len(due) > 0 {
		a.hub.offer(due)
	}
}

// publishAccepted notifies claimers and maintenance of new tasks.
func (a *acceptor) publishAccepted(asked []task.Task, answers []store.Accepted) {
	fail.Point("accept.committed")
	fresh := make([]*task.Task, 0, len(answers))
	for i := range answers {
		if s := &answers[i]; s.Refusal == nil && (!s.Duplicate || s.Task.ID == asked[i].ID) {
			fresh = append(fresh, &s.Task)
		}
	}
	a.counts.accepted.Add(int64(len(fresh)))
	a.counts.acceptCalls.Add(1)
	a.publisher.log(fresh)
	a.publisher.publish(fresh)
	fail.Point("accept.published")
}

// ids returns increasing ids.
type ids struct {
	mu      sync.Mutex // guards the fields below
	entropy io.Reader
	last    time.Time
}

// next returns an id that is greater than all earlier ones, even if the clock is set back.
func (s *ids) next(now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entropy == nil {
		s.entropy = ulid.Monotonic(rand.Reader, 0)
	}
	if now.After(s.last) {
		s.last = now
	}
	id, err := ulid.New(ulid.Timestamp(s.last), s.entropy)
	return id.String(), err
}
