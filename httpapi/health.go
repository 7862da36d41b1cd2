package httpapi

import (
	"errors"
	"net/http"

	"github.com/posta-tasks/posta/task"
)

const plain = "text/plain; charset=utf-8"

// healthz reports that the process is alive. It checks nothing else, so that a supervisor does not restart a node
// because of a fault elsewhere.
//
//	→ GET /healthz
//	← 200 ok
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) *task.Error {
	s.probed.Store(true)
	s.write(w, http.StatusOK, plain, []byte("ok\n"))
	return nil
}

// readyz answers whether the node should get new work. Balancers ask it.
//
//	→ GET /readyz
//	← 200 ready
//	← 503 {…,"detail":"the node is draining","code":"draining"}
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) *task.Error {
	s.probed.Store(true)
	if s.config.Ready != nil {
		if err := s.config.Ready(); err != nil {
			return asRefusal(err)
		}
	}
	s.write(w, http.StatusOK, plain, []byte("ready\n"))
	return nil
}

// Probed reports whether /healthz or /readyz was requested since the server was made. If so, a balancer may send
// new connections until its next check.
func (s *Server) Probed() bool { return s.probed.Load() }

// asRefusal returns the refusal in err, or one that says why the node is unavailable.
func asRefusal(err error) *task.Error {
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	return task.Refuse(task.Unavailable, "%s", err)
}

// metrics answers with the node's metrics.
//
//	→ GET /metrics
//	← 200 posta_tasks_total{action="upper",outcome="done"} 1 …
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) *task.Error {
	if s.config.Metrics == nil {
		return task.Refuse(task.Unavailable, "this node keeps no metrics")
	}
	s.config.Metrics.ServeHTTP(w, r)
	return nil
}

// page answers with a list of the routes.
//
//	→ GET /
//	← 200 Posta 0.1.0, node n1 …
func (s *Server) page(w http.ResponseWriter, _ *http.Request) *task.Error {
	s.write(w, http.StatusOK, plain, []byte(s.index))
	return nil
}
