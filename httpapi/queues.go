package httpapi

import (
	"net/http"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// queues lists every queue with its counts.
//
//	→ GET /v1/queues
//	← 200 {"ok":true,"queues":[{"queue":"mail","paused":false,…}]}
func (s *Server) queues(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.answer(w, r, wire.OpQueues)
}

// nodes lists the live nodes.
//
//	→ GET /v1/nodes
//	← 200 {"ok":true,"nodes":[{"node":"n1","pid":7,"actions":["echo",…],"queues":["*"],"slots":8,…}]}
func (s *Server) nodes(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.reply(); refusal != nil {
		return refusal
	}
	reply, refusal := s.service.Nodes(r.Context(), identityOf(r))
	return s.object(w, reply, refusal)
}

// pause pauses a queue, so that its tasks are not started.
//
//	→ POST /v1/queues/mail/pause
//	← 200 {"ok":true,"queue":"mail","paused":true}; 404 not_found if there is no queue mail
func (s *Server) pause(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.setPaused(w, r, wire.OpPause)
}

// resume resumes a queue.
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
	return s.answer(w, r, op, textMember("queue", r.PathValue("queue")))
}
