package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// kind has the status and the title of all problems with one code.
type kind struct {
	status int
	title  string
}

// kinds has the kind of each code of the line protocol. slow_consumer occurs in logs only.
var kinds = map[task.Code]kind{
	task.InvalidJSON:     {http.StatusBadRequest, "The body is not JSON"},
	task.InvalidRequest:  {http.StatusBadRequest, "The request is not valid"},
	task.UnknownOp:       {http.StatusBadRequest, "There is no such op"},
	task.UnknownField:    {http.StatusBadRequest, "There is no such field"},
	task.LineTooLong:     {http.StatusRequestEntityTooLarge, "The request is too large"},
	task.LineTimeout:     {http.StatusRequestTimeout, "The request took too long to arrive"},
	task.PayloadTooLarge: {http.StatusRequestEntityTooLarge, "The payload is too large"},
	task.Unauthenticated: {http.StatusUnauthorized, "A token is needed"},
	task.Forbidden:       {http.StatusForbidden, "This is not allowed"},
	task.NotFound:        {http.StatusNotFound, "There is no such thing"},
	task.Conflict:        {http.StatusConflict, "The task's state does not allow this"},
	task.KeyConflict:     {http.StatusConflict, "The key belongs to another request"},
	task.Stale:           {http.StatusConflict, "The attempt is over"},
	task.Quiet:           {http.StatusConflict, "An operator asked this worker to stop"},
	task.Overloaded:      {http.StatusServiceUnavailable, "The node has too much to do"},
	task.Draining:        {http.StatusServiceUnavailable, "The node is about to stop"},
	task.Unavailable:     {http.StatusServiceUnavailable, "This is not available here"},
	task.UnknownOutcome:  {http.StatusGatewayTimeout, "It may or may not have happened"},
	task.Internal:        {http.StatusInternalServerError, "The node has failed"},
}

// document is a problem document (RFC 9457). code and the members after it are those of a refusal in the line
// protocol.
type document struct {
	Type       string    `json:"type"`
	Title      string    `json:"title"`
	Status     int       `json:"status"`
	Detail     string    `json:"detail"`
	Code       task.Code `json:"code"`
	Field      string    `json:"field,omitempty"`
	Limit      string    `json:"limit,omitempty"`
	Task       string    `json:"task,omitempty"`
	State      string    `json:"state,omitempty"`
	RetryAfter float64   `json:"retry_after,omitempty"`
}

// render writes the problem document.
func render(status int, refusal *task.Error) []byte {
	detail := refusal.Message
	if refusal.Detail != "" {
		detail += ": " + refusal.Detail
	}
	body, err := json.Marshal(document{
		Type:       "urn:posta:problem:" + string(refusal.Code),
		Title:      kinds[refusal.Code].title,
		Status:     status,
		Detail:     detail,
		Code:       refusal.Code,
		Field:      refusal.Field,
		Limit:      refusal.Limit,
		Task:       refusal.Task,
		State:      refusal.State,
		RetryAfter: refusal.RetryAfter.Seconds(),
	})
	if err != nil { // it cannot fail: there are only strings and finite numbers
		panic(err)
	}
	return append(body, '\n')
}

// Refusal returns the whole answer, including its head, to a connection that is refused before its request was
// read.
func Refusal(refusal *task.Error) []byte {
	status := kinds[refusal.Code].status
	body := render(status, refusal)
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n",
		status, http.StatusText(status), len(body))
	if refusal.RetryAfter > 0 {
		head += fmt.Sprintf("Retry-After: %.0f\r\n", math.Ceil(refusal.RetryAfter.Seconds()))
	}
	return append([]byte(head+"\r\n"), body...)
}

// refuse answers with the problem document of the refusal.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, refusal *task.Error) {
	s.problem(w, r, kinds[refusal.Code].status, refusal)
}

// problem answers with a problem document. status may be more precise than the one of the code.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, status int, refusal *task.Error) {
	s.counters.refuse(refusal.Code)
	s.config.Logger.Debug("http request refused", "method", r.Method, "path", r.URL.Path, "status", status, "code", refusal.Code)
	body := render(status, refusal)
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	if !unread(r) {
		s.write(w, status, "application/problem+json", body)
		return
	}
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // otherwise net/http reads the body before it writes
	w.Header().Set("Connection", "close")
	s.write(w, status, "application/problem+json", body)
	s.linger(r, control)
}

// unread reports whether so much of the body is missing that net/http would close the connection. A client that
// waits for 100 Continue sends none.
func unread(r *http.Request) bool {
	const netHTTPReads = 256 << 10
	large := r.ContentLength < 0 || r.ContentLength > netHTTPReads
	return large && r.Body != http.NoBody && r.Header.Get("Expect") == ""
}

// linger continues to read for a while after an answer. To close the connection while the client still sends would
// reset it, and the answer could be lost on its way through a balancer.
func (s *Server) linger(r *http.Request, control *http.ResponseController) {
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(task.LingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, task.LingerBytes)
}
