package httpapi

import (
	"net/http"
	"unicode/utf8"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const jsonType = "application/json"

// enqueue accepts a durable task, or a stream of them (bulk).
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
		wanted, refusal = enqueued(request, identityOf(r))
	}
	if refusal != nil {
		return refusal
	}
	answer := s.service.Accept(r.Context(), identityOf(r), []durable.Request{wanted})[0]
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
	s.write(w, status, jsonType, s.service.AppendAccepted(r.Context(), nil, request.ID, &answer))
	return nil
}

// enqueued returns the task that a request asks for. It refuses wait, because nothing can be pushed over HTTP.
func enqueued(request *wire.Request, who *auth.Identity) (durable.Request, *task.Error) {
	if request.Options.Wait {
		return durable.Request{}, task.RefuseField(task.InvalidRequest, "wait",
			"wait is for lines; over HTTP the task is waited for at GET /v1/tasks/{task}?wait=30")
	}
	return service.Enqueued(request, who)
}

// takeKey sets the key from the header Idempotency-Key.
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

// get returns a task, at once or when it is finished.
//
//	→ GET /v1/tasks/01J…?wait=30
//	← 200 {"status":"done","task":"01J…",…}
func (s *Server) get(w http.ResponseWriter, r *http.Request) *task.Error {
	query, id := r.URL.Query(), textMember("task", r.PathValue("task"))
	request, refusal := lineOf(wire.OpGet, append(queryMembers(query, "payload"), id)...)
	if refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	var reply service.Reply
	if query.Has("wait") {
		reply, refusal = s.wait(r, counted, id)
	}
	if refusal == nil && (!query.Has("wait") || request.Options.WithPayload) {
		reply, refusal = s.do(r, counted, request)
	}
	return s.object(w, reply, refusal)
}

// wait waits for a task as long as the query asks.
func (s *Server) wait(r *http.Request, counted *account, id member) (service.Reply, *task.Error) {
	request, refusal := lineOf(wire.OpWait, id, wordMember("timeout", r.URL.Query().Get("wait")))
	if refusal == nil {
		refusal = counted.takeLasting(waitBytes)
	} else if refusal.Field == "timeout" {
		refusal = task.RefuseField(task.InvalidRequest, "wait", "wait must be a number of seconds from 0 to %g", task.MaxTaskTimeout.Seconds())
	}
	if refusal != nil {
		return service.Reply{}, refusal
	}
	defer counted.give(waitBytes)
	return s.do(r, counted, request)
}

// do executes a durable request.
func (s *Server) do(r *http.Request, counted *account, request *wire.Request) (service.Reply, *task.Error) {
	own, refusal := service.NewRequest(request, identityOf(r))
	if refusal != nil {
		return service.Reply{}, refusal
	}
	own.Room = counted.reply
	return s.service.Do(r.Context(), own)
}

// object answers with a reply without its envelope, or with the refusal.
func (s *Server) object(w http.ResponseWriter, reply service.Reply, refusal *task.Error) *task.Error {
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, reply.Body())
	}
	return refusal
}

// result answers with a result object.
func (s *Server) result(w http.ResponseWriter, object []byte) *task.Error {
	s.write(w, http.StatusOK, jsonType, append(object, '\n'))
	return nil
}

// answer executes the line of an op, and answers with its reply without the envelope.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, op wire.Op, members ...member) *task.Error {
	request, refusal := lineOf(op, members...)
	if refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	reply, refusal := s.do(r, counted, request)
	return s.object(w, reply, refusal)
}

// list lists tasks, newest first.
//
//	→ GET /v1/tasks?queue=mail&status=failed&meta.user=7&since=2026-01-31T08:00:00Z&limit=50
//	← 200 {"ok":true,"tasks":[…],"cursor":"…"}
func (s *Server) list(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.answer(w, r, wire.OpList, queryMembers(r.URL.Query(), "queue", "action", "status", "owner", "meta", "since", "until", "limit", "cursor")...)
}

// cancel cancels a task.
//
//	→ POST /v1/tasks/01J…/cancel
//	← 200 {"status":"cancelled","task":"01J…"}
func (s *Server) cancel(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeOne(w, r, wire.OpCancel)
}

// retry retries a task.
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
	return s.answer(w, r, op, textMember("task", r.PathValue("task")))
}

// cancelSome cancels the tasks that match a filter.
//
//	→ POST /v1/tasks/cancel {"filter":{"queue":"mail"},"limit":100}
//	← 200 {"id":null,"status":"done","result":{"ok":true,"matched":3,"changed":3,"cancelling":0,"more":false}}
func (s *Server) cancelSome(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.changeSome(w, r, wire.OpCancel)
}

// retrySome retries the tasks that match a filter.
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
	reply, refusal := s.do(r, counted, request)
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, reply.Line())
	}
	return refusal
}
