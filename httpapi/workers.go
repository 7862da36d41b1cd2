package httpapi

import (
	"net/http"

	"github.com/posta-tasks/posta/task"
)

func workerRoutes() []route {
	return []route{{
		method: "GET", path: "/v1/workers", handle: (*Server).listWorkers, about: "show the workers of this process",
		answers: []reply{{200, jsonType, "WorkerList", "every worker that is connected to a node of this process, by name"}},
	}, {
		method: "POST", path: "/v1/workers/{worker}/quiet", handle: (*Server).quiet, about: "ask a worker to stop: it receives no more tasks",
		answers: []reply{{200, jsonType, "Quieted", "it was asked; what it holds stays valid"}},
	}}
}

// refuseWorkers refuses a request of a worker if the node takes no workers.
func (s *Server) refuseWorkers() *task.Error {
	if s.workers == nil {
		return task.Refuse(task.Unavailable, "this node takes no workers")
	}
	return nil
}

// listWorkers lists the workers that are connected to the nodes of this process.
//
//	→ GET /v1/workers
//	← 200 {"ok":true,"workers":[{"worker":"n1-c7","node":"n1","actions":["greet"],"queues":["*"],"slots":8,"held":3,…}]}
func (s *Server) listWorkers(w http.ResponseWriter, r *http.Request) *task.Error {
	if refusal := s.refuseWorkers(); refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.reply(); refusal != nil {
		return refusal
	}
	return s.object(w, s.workers.List(), nil)
}

// quiet asks a worker to stop.
//
//	→ POST /v1/workers/n1-c7/quiet
//	← 200 {"ok":true,"worker":"n1-c7","quiet":true}; 404 not_found if no worker has the name
func (s *Server) quiet(w http.ResponseWriter, r *http.Request) *task.Error {
	refusal := s.refuseWorkers()
	if refusal == nil {
		refusal = noBody(r)
	}
	name := r.PathValue("worker")
	if refusal == nil {
		refusal = task.CheckText("worker", name)
	}
	if refusal != nil {
		return refusal
	}
	reply, refusal := s.workers.Quiet(name)
	return s.object(w, reply, refusal)
}
