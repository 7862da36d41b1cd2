package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// byteOrderMark is a mark that some editors write before UTF-8 text. Before a body it is skipped.
var byteOrderMark = []byte("\xEF\xBB\xBF")

// run does one task now and answers with its result. A connection that breaks cancels its task.
//
//	→ POST /v1/run {"id":1,"action":"upper","payload":"hola"}
//	← 200 {"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}
func (s *Server) run(w http.ResponseWriter, r *http.Request) *task.Error {
	counted := s.account(r)
	defer counted.close()
	request, refusal := s.readRequest(w, r, counted, wire.OpRun)
	if refusal == nil {
		refusal = service.MayRun(identityOf(r), request.Action)
	}
	if refusal == nil && s.config.Budget.Full() { // otherwise results would add to unread replies
		refusal = counted.take(1)
	}
	if refusal != nil {
		return refusal
	}
	result, refusal := s.execute(r.Context(), request)
	if refusal != nil {
		return refusal
	}
	if len(result) > bodyBytes {
		counted.add(bodyCopies * len(result))
	}
	s.write(w, http.StatusOK, jsonType, wire.AppendDone(nil, request.ID, result))
	return nil
}

// readBody reads the whole body, within the limits of a line.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, counted *account) ([]byte, *task.Error) {
	limit := s.limits.Line
	if r.ContentLength > int64(limit) {
		return nil, s.tooLarge()
	}
	if refusal := counted.body(w, int(r.ContentLength)); refusal != nil {
		return nil, refusal
	}
	var body []byte // it grows with the bytes received, not with the announced length
	var err error
	for err == nil && len(body) <= limit {
		if len(body) == cap(body) {
			larger := min(max(2*cap(body), 512), limit+1)
			if refusal := counted.body(w, larger); refusal != nil {
				return nil, refusal
			}
			body = append(make([]byte, 0, larger), body...)
		}
		var n int
		n, err = r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		refusal := task.Refuse(task.LineTimeout, "the body was not complete within %s", s.limits.LineTimeout)
		refusal.Limit = "line-timeout"
		return nil, refusal
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, &task.Error{Code: task.InvalidRequest, Message: "the body broke off", Detail: err.Error()}
	case len(body) > limit:
		return nil, s.tooLarge()
	}
	r.Body = http.NoBody // it was read, so the answer need not wait for it
	// From now on net/http reads ahead to notice that the client has disconnected. The deadline of the body must
	// not look like that.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return bytes.TrimPrefix(body, byteOrderMark), nil
}

func (s *Server) tooLarge() *task.Error {
	refusal := task.Refuse(task.PayloadTooLarge, "the body is larger than %d bytes", s.limits.Line)
	refusal.Limit = "max-line"
	return refusal
}

// execute runs the task of the request until ctx ends, with the connection of its client. A client that has only closed its
// writing side still gets the answer.
func (s *Server) execute(ctx context.Context, request *wire.Request) ([]byte, *task.Error) {
	timeout := request.Timeout
	if timeout == 0 {
		timeout = s.limits.TaskTimeout
	}
	return s.config.Executor.Run(ctx, executor.Task{ID: request.ID, Action: request.Action, Payload: request.Payload, Timeout: timeout, PassedOn: request.PassedOn})
}
