package httpapi

import (
	"context"
	"net/http"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// queues shows every queue with its counts.
//
//	→ GET /v1/queues
//	← 200 {"ok":true,"queues":[{"queue":"mail","paused":false,…}]}
func (s *Server) queues(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.take(replyBytes); refusal != nil {
		return refusal
	}
	found, refusal := s.config.Durable.Queues(r.Context())
	rows := make([]wire.Queue, len(found))
	for i, q := range found {
		rows[i] = wire.Queue(q)
	}
	return s.result(w, wire.AppendQueues(nil, rows), refusal)
}

// nodes shows the nodes that are alive.
//
//	→ GET /v1/nodes
//	← 200 {"ok":true,"nodes":[{"node":"n1","pid":7,"actions":["echo",…],"queues":["*"],"slots":8,…}]}
func (s *Server) nodes(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.take(replyBytes); refusal != nil {
		return refusal
	}
	found, refusal := s.config.Durable.Nodes(r.Context())
	rows := make([]wire.Node, len(found))
	for i, n := range found {
		rows[i] = wire.Node{
			Name: n.Name, PID: n.PID, Actions: n.Actions, Queues: n.Queues, Slots: n.Slots, Stuck: n.Stuck, Started: n.Started, Seen: n.Seen,
		}
	}
	return s.result(w, wire.AppendNodes(nil, rows), refusal)
}

// pause stops a queue's tasks from being started.
//
//	→ POST /v1/queues/mail/pause
//	← 200 {"ok":true,"queue":"mail","paused":true}; 404 not_found if there is no queue mail
func (s *Server) pause(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.setPaused(w, r, wire.OpPause)
}

// resume lets them go on.
//
//	→ POST /v1/queues/mail/resume
//	← 200 {"ok":true,"queue":"mail","paused":false}
func (s *Server) resume(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.setPaused(w, r, wire.OpResume)
}

func (s *Server) setPaused(w http.ResponseWriter, r *http.Request, op wire.Op) *task.Error {
	if refusal := noBody(r); refusal != nil {
		return refusal
	}
	request, refusal := lineOf(op, textMember("queue", r.PathValue("queue")))
	if refusal != nil {
		return refusal
	}
	paused, queue := op == wire.OpPause, request.Options.Queue
	refusal = s.config.Durable.Pause(context.WithoutCancel(r.Context()), queue, paused)
	return s.result(w, wire.AppendPaused(nil, queue, paused), refusal)
}
