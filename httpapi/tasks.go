package httpapi

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const jsonType = "application/json"

// enqueue accepts a task for good, or a stream of them (bulk).
//
//	→ POST /v1/tasks {"action":"upper","payload":"hola"}
//	← 202 {"id":null,"status":"queued","task":"01J…"}
func (s *Server) enqueue(w http.ResponseWriter, r *http.Request) *task.Error {
	if contentType(r) == ndjson {
		return s.bulk(w, r)
	}
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readRequest(w, r, counted, wire.OpEnqueue)
	if refusal == nil {
		refusal = takeKey(request, r)
	}
	var wanted durable.Request
	if refusal == nil {
		wanted, refusal = enqueued(request)
	}
	if refusal != nil {
		return refusal
	}
	// A client that has gone takes nothing back.
	answer := s.config.Durable.Accept(context.WithoutCancel(r.Context()), []durable.Request{wanted})[0]
	if answer.Refusal == nil && answer.Task.State.Final() {
		answer.Refusal = counted.take(replyBytes)
	}
	if answer.Refusal != nil {
		return answer.Refusal
	}
	status := http.StatusAccepted
	if answer.Duplicate {
		status = http.StatusOK
	}
	w.Header().Set("Location", "tasks/"+answer.Task.ID) // relative, since a proxy may have cut a prefix off the path
	s.write(w, status, jsonType, s.appendAccepted(r.Context(), nil, request.ID, &answer))
	return nil
}

// enqueued gives the task that a request asks for. Nothing can be pushed to who has asked
// over HTTP.
func enqueued(request *wire.Request) (durable.Request, *task.Error) {
	if request.Options.Wait {
		return durable.Request{}, task.RefuseField(task.InvalidRequest, "wait",
			"wait is for lines; over HTTP the task is waited for at GET /v1/tasks/{task}?wait=30")
	}
	wanted, refusal := service.Enqueue(request)
	return durable.Request(wanted), refusal
}

// appendAccepted appends the line that answers an enqueue.
func (s *Server) appendAccepted(ctx context.Context, dst, id []byte, answer *durable.Accepted) []byte {
	t := &answer.Task
	switch {
	case answer.Refusal != nil:
		s.counters.refuse(answer.Refusal.Code)
		return wire.AppendError(dst, id, answer.Refusal)
	case t.State.Final():
		t.Payload = task.Body{}
		s.config.Durable.Show(ctx, t, wire.MaxShown)
		return wire.AppendFinal(dst, id, t, 0, answer.Duplicate)
	}
	return wire.AppendAccepted(dst, id, t, answer.Duplicate, answer.Warning)
}

// takeKey takes the key from the header that is made for it.
func takeKey(request *wire.Request, r *http.Request) *task.Error {
	const header = "Idempotency-Key"
	values := r.Header.Values(header)
	switch {
	case len(values) == 0:
		return nil
	case len(values) > 1 || !utf8.ValidString(values[0]):
		return task.RefuseField(task.InvalidRequest, header, "%s must come once, as UTF-8", header)
	case request.Options.Key != "" && request.Options.Key != values[0]:
		return task.RefuseField(task.InvalidRequest, "key", "the header %s is %s and the key in the body is %s: they must be the same",
			header, clip(values[0]), clip(request.Options.Key))
	}
	keyed, refusal := lineOf(wire.OpEnqueue, textMember("action", "any"), textMember("key", values[0]))
	if refusal == nil {
		request.Options.Key = keyed.Options.Key
	}
	return refusal
}

// get shows a task, at once or when it is finished.
//
//	→ GET /v1/tasks/01J…?wait=30
//	← 200 {"status":"done","task":"01J…",…}
func (s *Server) get(w http.ResponseWriter, r *http.Request) *task.Error {
	query, id := r.URL.Query(), r.PathValue("task")
	request, refusal := lineOf(wire.OpGet, append(queryMembers(query, "payload"), textMember("task", id))...)
	if refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	t, refusal := s.waited(r, counted, id)
	if refusal == nil {
		refusal = counted.take(replyBytes)
	}
	if refusal == nil && (t.ID == "" || request.Options.WithPayload) {
		t, refusal = s.config.Durable.Get(r.Context(), id, request.Options.WithPayload)
	}
	if refusal != nil {
		return refusal
	}
	s.config.Durable.Show(r.Context(), &t, wire.MaxShown)
	s.write(w, http.StatusOK, jsonType, wire.Bare(wire.AppendRecord(nil, nil, &t)))
	return nil
}

// waited waits for a task as long as the query says; without that, the task has no id.
func (s *Server) waited(r *http.Request, counted *account, id string) (task.Task, *task.Error) {
	query := r.URL.Query()
	if !query.Has("wait") {
		return task.Task{}, nil
	}
	request, refusal := lineOf(wire.OpWait, textMember("task", id), wordMember("timeout", query.Get("wait")))
	if refusal != nil {
		if refusal.Field == "timeout" {
			refusal = task.RefuseField(task.InvalidRequest, "wait", "wait must be a number of seconds from 0 to %g", task.MaxTaskTimeout.Seconds())
		}
		return task.Task{}, refusal
	}
	if refusal := counted.takeLasting(waitBytes); refusal != nil {
		return task.Task{}, refusal
	}
	defer counted.give(waitBytes)
	ctx, cancel := context.WithTimeout(r.Context(), request.Timeout)
	defer cancel()
	return s.config.Durable.Wait(ctx, id)
}

// list shows tasks, newest first.
//
//	→ GET /v1/tasks?queue=mail&status=failed&meta.user=7&since=2026-01-31T08:00:00Z&limit=50
//	← 200 {"ok":true,"tasks":[…],"cursor":"…"}
func (s *Server) list(w http.ResponseWriter, r *http.Request) *task.Error {
	request, refusal := lineOf(wire.OpList, queryMembers(r.URL.Query(), "queue", "action", "status", "meta", "since", "until", "limit", "cursor")...)
	if refusal != nil {
		return refusal
	}
	selection, refusal := service.Select(request)
	if refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.take(replyBytes); refusal != nil {
		return refusal
	}
	page, refusal := s.config.Durable.List(r.Context(), durable.Query(selection))
	return s.result(w, wire.AppendList(nil, page.Tasks, page.Cursor), refusal)
}

// result answers with a result object, unless there is a refusal.
func (s *Server) result(w http.ResponseWriter, object []byte, refusal *task.Error) *task.Error {
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, append(object, '\n'))
	}
	return refusal
}

// cancel ends a task.
//
//	→ POST /v1/tasks/01J…/cancel
//	← 200 {"status":"cancelled","task":"01J…"}
func (s *Server) cancel(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeOne(w, r, wire.OpCancel)
}

// retry begins a task again.
//
//	→ POST /v1/tasks/01J…/retry
//	← 200 {"status":"queued","task":"01J…","generation":1}
func (s *Server) retry(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeOne(w, r, wire.OpRetry)
}

func (s *Server) changeOne(w http.ResponseWriter, r *http.Request, op wire.Op) *task.Error {
	if refusal := noBody(r); refusal != nil {
		return refusal
	}
	request, refusal := lineOf(op, textMember("task", r.PathValue("task")))
	if refusal != nil {
		return refusal
	}
	line, refusal := s.change(r.Context(), request)
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, wire.Bare(line))
	}
	return refusal
}

// cancelSome ends tasks that a filter selects.
//
//	→ POST /v1/tasks/cancel {"filter":{"queue":"mail"},"limit":100}
//	← 200 {"id":null,"status":"done","result":{"ok":true,"matched":3,"changed":3,"cancelling":0,"more":false}}
func (s *Server) cancelSome(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeSome(w, r, wire.OpCancel)
}

// retrySome begins tasks again that a filter selects.
//
//	→ POST /v1/tasks/retry {"filter":{"status":"failed"}}
//	← 200 {"id":null,"status":"done","result":{"ok":true,"matched":3,"changed":3,"cancelling":0,"more":false}}
func (s *Server) retrySome(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeSome(w, r, wire.OpRetry)
}

func (s *Server) changeSome(w http.ResponseWriter, r *http.Request, op wire.Op) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readRequest(w, r, counted, op)
	if refusal != nil {
		return refusal
	}
	line, refusal := s.change(r.Context(), request)
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, line)
	}
	return refusal
}

// change makes the change that a cancel or retry asks for, and gives the line that answers
// it. It is made although the client goes.
func (s *Server) change(ctx context.Context, r *wire.Request) ([]byte, *task.Error) {
	ctx = context.WithoutCancel(ctx)
	one, many := s.config.Durable.Cancel, s.config.Durable.CancelWhere
	if r.Op == wire.OpRetry {
		one, many = s.config.Durable.Retry, s.config.Durable.RetryWhere
	}
	if r.Options.Task == "" {
		selection, refusal := service.Select(r)
		if refusal != nil {
			return nil, refusal
		}
		bulk, refusal := many(ctx, durable.Query(selection))
		return wire.AppendDone(nil, r.ID, wire.AppendBulk(nil, wire.Bulk(bulk))), refusal
	}
	changed, refusal := one(ctx, []string{r.Options.Task})
	if refusal == nil {
		refusal = changed[0].Refusal
	}
	if refusal != nil {
		return nil, refusal
	}
	return wire.AppendState(nil, r.ID, &changed[0].Task, r.Op == wire.OpRetry), nil
}
