package httpapi

import (
	"bytes"
	"net/http"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func workerRoutes() []route {
	ended := []reply{{200, jsonType, "Ended", "the outcome is on stable storage"}}
	return []route{{
		method: "GET", path: "/v1/workers", access: asks, handle: (*Server).listWorkers, about: "show the workers of this process",
		answers: []reply{{200, jsonType, "WorkerList", "every worker that is connected to a node of this process, by name"}},
	}, {
		method: "POST", path: "/v1/workers/{worker}/quiet", access: asks, handle: (*Server).quiet, about: "ask a worker to stop: it receives no more tasks",
		answers: []reply{{200, jsonType, "Quieted", "it was asked; what it holds stays valid"}},
	}, {
		method: "POST", path: "/v1/work", access: asks, handle: (*Server).poll, store: true, about: "as a worker without a connection, wait for tasks",
		takes: []string{jsonType}, body: "Poll", answers: []reply{{200, jsonType, "Polled", "the tasks; none when the wait is over"}},
	}, {
		method: "POST", path: "/v1/work/beat", access: asks, handle: (*Server).beat, store: true, about: "extend leases",
		takes: []string{jsonType}, body: "Beat", answers: []reply{{200, jsonType, "BeatReply", "the leases whose attempts must stop, and those that are lost"}},
	}, {
		method: "POST", path: "/v1/work/{lease}/done", access: asks, handle: ending(wire.OpFinish), store: true, about: "answer a lease with the result of its task",
		takes: []string{jsonType}, body: "Done", answers: ended,
	}, {
		method: "POST", path: "/v1/work/{lease}/fail", access: asks, handle: ending(wire.OpFail), store: true, about: "answer a lease with an error",
		takes: []string{jsonType}, body: "Fail", answers: ended,
	}, {
		method: "POST", path: "/v1/work/{lease}/release", access: asks, handle: ending(wire.OpRelease), store: true, about: "give a task back, without a failed attempt",
		takes: []string{jsonType}, body: "Release", answers: ended,
	}, {
		method: "POST", path: "/v1/work/{lease}/progress", access: asks, handle: (*Server).progress, store: true, about: "report the progress of an attempt",
		takes: []string{jsonType}, body: "Progress", answers: []reply{{200, jsonType, "OK", "it was passed on"}},
	}}
}

// listWorkers lists the workers that are connected to the nodes of this process.
//
//	→ GET /v1/workers
//	← 200 {"ok":true,"workers":[{"worker":"n1-c7","node":"n1","actions":["greet"],"queues":["*"],"slots":8,"held":3,…}]}
func (s *Server) listWorkers(w http.ResponseWriter, r *http.Request) *task.Error {
	if refusal := s.workers.Unavailable(); refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.reply(); refusal != nil {
		return refusal
	}
	reply, refusal := s.workers.List(identityOf(r))
	return s.object(w, reply, refusal)
}

// quiet stops pushes to a worker.
//
//	→ POST /v1/workers/n1-c7/quiet
//	← 200 {"ok":true,"worker":"n1-c7","quiet":true}; 404 not_found if no worker has the name
func (s *Server) quiet(w http.ResponseWriter, r *http.Request) *task.Error {
	refusal := s.workers.Unavailable()
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
	reply, refusal := s.workers.Quiet(identityOf(r), name)
	return s.object(w, reply, refusal)
}

// poll waits for tasks for a worker without a connection. If the client disconnects before it has the answer, poll gives the
// tasks back.
//
//	→ POST /v1/work {"worker":"f-7","actions":["resize"],"slots":1,"wait":30,"lease_s":60}
//	← 200 {"worker":"f-7","tasks":[{"lease":"01J….1","task":"01J…","attempt":1,"queue":"default",…,"payload":{…}}]}
func (s *Server) poll(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readWork(w, r, counted, wire.OpPoll)
	if refusal == nil && s.draining.Load() {
		refusal = task.Refuse(task.Draining, "this node stops; ask another one")
	}
	if refusal == nil {
		refusal = counted.takeLasting(waitBytes)
	}
	if refusal != nil {
		return refusal
	}
	answer, giveBack, refusal := s.workers.Poll(r.Context(), request, identityOf(r))
	if refusal != nil {
		return refusal
	}
	if len(answer) > bodyBytes {
		counted.add(len(answer))
	}
	if r.Context().Err() != nil || !s.delivered(w, answer) {
		giveBack()
	}
	return nil
}

// delivered writes an answer and reports whether the connection has accepted all of it.
func (s *Server) delivered(w http.ResponseWriter, body []byte) bool {
	watched := &watchedWriter{ResponseWriter: w}
	s.write(watched, http.StatusOK, jsonType, body)
	return watched.err == nil && http.NewResponseController(w).Flush() == nil
}

// watchedWriter keeps the error of a failed write.
type watchedWriter struct {
	http.ResponseWriter
	err error
}

// Write implements io.Writer.
func (w *watchedWriter) Write(body []byte) (int, error) {
	n, err := w.ResponseWriter.Write(body)
	if err != nil {
		w.err = err
	}
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// beat extends leases.
//
//	→ POST /v1/work/beat {"worker":"f-7","leases":["01J….1","01K….2"]}
//	← 200 {"ok":true,"cancelling":["01J….1"],"lost":["01K….2"]}
func (s *Server) beat(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readWork(w, r, counted, wire.OpBeat)
	if refusal != nil {
		return refusal
	}
	answer, refusal := s.workers.Beat(r.Context(), request, identityOf(r))
	if refusal == nil {
		s.write(w, http.StatusOK, jsonType, answer)
	}
	return refusal
}

// ending returns the handler of an op that ends an attempt. The handler answers when the outcome is stored.
//
//	→ POST /v1/work/01J….1/done {"data":"HOLA"}
//	← 200 {"id":null,"status":"done","lease":"01J….1","task":"01J…","attempt":1}; 409 stale if the attempt is over
func ending(op wire.Op) func(s *Server, w http.ResponseWriter, r *http.Request) *task.Error {
	return func(s *Server, w http.ResponseWriter, r *http.Request) *task.Error { return s.finish(w, r, op) }
}

func (s *Server) finish(w http.ResponseWriter, r *http.Request, op wire.Op) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readLeased(w, r, counted, op)
	if refusal != nil {
		return refusal
	}
	type outcome struct {
		line    []byte
		refusal *task.Error
	}
	stored := make(chan outcome, 1)
	elsewhere, refusal := s.workers.Finish(request, identityOf(r), func(line []byte, refusal *task.Error) { stored <- outcome{line, refusal} })
	if refusal != nil {
		return refusal
	}
	if elsewhere != nil {
		elsewhere()
	}
	select {
	case got := <-stored:
		if got.refusal != nil {
			return got.refusal
		}
		s.write(w, http.StatusOK, jsonType, got.line)
	case <-r.Context().Done(): // the outcome is stored anyway
	}
	return nil
}

// progress passes on the progress of an attempt.
//
//	→ POST /v1/work/01J….1/progress {"percent":40,"message":"half"}
//	← 200 {"ok":true}
func (s *Server) progress(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readLeased(w, r, counted, wire.OpProgress)
	if refusal == nil {
		refusal = s.workers.ReportAnywhere(r.Context(), request, identityOf(r))
	}
	if refusal != nil {
		return refusal
	}
	return s.result(w, []byte(`{"ok":true}`))
}

// readWork reads the body of a request that a worker sends.
func (s *Server) readWork(w http.ResponseWriter, r *http.Request, counted *account, op wire.Op) (*wire.Request, *task.Error) {
	if refusal := s.workers.Unavailable(); refusal != nil {
		return nil, refusal
	}
	return s.readRequest(w, r, counted, op)
}

// readLeased reads the body of a request about the lease in its path.
func (s *Server) readLeased(w http.ResponseWriter, r *http.Request, counted *account, op wire.Op) (*wire.Request, *task.Error) {
	if refusal := s.workers.Unavailable(); refusal != nil {
		return nil, refusal
	}
	lease := textMember("lease", r.PathValue("lease"))
	if lease.refusal != nil {
		return nil, lease.refusal
	}
	body, refusal := s.readBody(w, r, counted)
	if refusal != nil {
		return nil, refusal
	}
	request := new(wire.Request)
	return request, parseAs(request, withMember(body, lease), op)
}

// withMember appends a member to a JSON object. It returns any other text unchanged, so that the parser refuses it.
func withMember(object []byte, m member) []byte {
	open, ok := bytes.CutSuffix(bytes.TrimRight(object, " \t\r\n"), []byte("}"))
	if !ok {
		return object
	}
	line := bytes.Clone(open)
	if !bytes.HasSuffix(bytes.TrimRight(open, " \t\r\n"), []byte("{")) {
		line = append(line, ',')
	}
	line = append(task.AppendString(line, m.name), ':')
	return append(append(line, m.value...), '}')
}
