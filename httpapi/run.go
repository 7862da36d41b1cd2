package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// byteOrderMark is what some editors put before UTF-8 text; before a body it is skipped.
var byteOrderMark = []byte("\xEF\xBB\xBF")

// run does one task now and answers with its result. A connection that breaks cancels its task.
//
//	→ POST /v1/run {"id":1,"action":"upper","payload":"hola"}
//	← 200 {"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}
func (s *Server) run(w http.ResponseWriter, r *http.Request) *task.Error {
	request, refusal := s.readRequest(w, r, wire.OpRun)
	if refusal != nil {
		return refusal
	}
	result, refusal := s.execute(r, request)
	if refusal != nil {
		return refusal
	}
	s.write(w, http.StatusOK, jsonType, wire.AppendDone(nil, request.ID, result))
	return nil
}

// readBody reads the whole body, within the limits of a line.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *task.Error) {
	limit := int64(s.limits.Line)
	if r.ContentLength > limit {
		return nil, s.tooLarge()
	}
	var body bytes.Buffer // it grows with what comes, not with what was announced
	_, err := body.ReadFrom(io.LimitReader(r.Body, limit+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		refusal := task.Refuse(task.LineTimeout, "the body was not complete within %s", s.limits.LineTimeout)
		refusal.Limit = "line-timeout"
		return nil, refusal
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, &task.Error{Code: task.InvalidRequest, Message: "the body broke off", Detail: err.Error()}
	case int64(body.Len()) > limit:
		return nil, s.tooLarge()
	}
	r.Body = http.NoBody // it is read: an answer need not wait for it
	// From here on net/http reads ahead to notice that the client goes; the
	// body's deadline must not look like that.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return bytes.TrimPrefix(body.Bytes(), byteOrderMark), nil
}

func (s *Server) tooLarge() *task.Error {
	refusal := task.Refuse(task.PayloadTooLarge, "the body is larger than %d bytes", s.limits.Line)
	refusal.Limit = "max-line"
	return refusal
}

// execute runs the request's task until its client's connection breaks. A client that has only closed its
// writing side is still owed the answer.
func (s *Server) execute(r *http.Request, request *wire.Request) ([]byte, *task.Error) {
	timeout := request.Timeout
	if timeout == 0 {
		timeout = s.limits.TaskTimeout
	}
	return s.config.Executor.Run(r.Context(), executor.Task{ID: request.ID, Action: request.Action, Payload: request.Payload, Timeout: timeout})
}
