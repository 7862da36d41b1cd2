package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	ndjson = "application/x-ndjson"
	// intakeBytes is how many bytes of a stream of lines are read at once. The tasks in them are accepted together.
	intakeBytes = 64 << 10
	// codeIdle is the code of the goaway that ends an idle stream of lines.
	codeIdle task.Code = "idle"
)

// bulk accepts one task per line, and answers with one line for each, in their order, while it reads on. It holds one
// read in memory: while a client does not read its answers, the node does not read its lines.
//
//	→ POST /v1/tasks (application/x-ndjson) {"id":1,"action":"upper"} … (a line each)
//	← 200 {"id":1,"status":"queued","task":"01J…"} … (a line each)
func (s *Server) bulk(w http.ResponseWriter, r *http.Request) *task.Error {
	if r.Header.Get("Idempotency-Key") != "" {
		return task.RefuseField(task.InvalidRequest, "Idempotency-Key", "many tasks cannot have one key; give each line its own")
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.takeLasting(intakeBytes); refusal != nil {
		return refusal
	}
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil {
		return task.Refuse(task.Unavailable, "this connection cannot be read and written at once; send each task by itself")
	}
	w.Header().Set("Content-Type", ndjson)
	w.Header().Set("X-Accel-Buffering", "no") // otherwise Nginx would buffer the answers
	in := &intake{server: s, life: r.Context(), counted: counted, body: r.Body, control: control, buffer: make([]byte, intakeBytes)}
	// A node that is about to stop reads no more. It answers what it has read.
	defer context.AfterFunc(s.closing, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })()
	defer context.AfterFunc(r.Context(), func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })()
	out := &flusher{server: s, w: w}
	for ended := false; !ended; {
		var end []byte
		end, ended = in.fill()
		if who := identityOf(r); !ended && (r.Context().Err() != nil || who.IsOver(time.Now())) { // the token has ended
			end, ended = in.refuse(task.Refuse(task.Unauthenticated, "the token has ended or was revoked")), true
		}
		in.take(ended)
		for lines := in.next(s.limits.Window); len(lines) > 0; lines = in.next(s.limits.Window) {
			if !s.acceptLines(r.Context(), identityOf(r), out, counted, lines) {
				return nil
			}
		}
		if !out.send(end) {
			return nil
		}
	}
	if in.atEnd {
		r.Body = http.NoBody
	}
	return nil
}

// acceptLines accepts the tasks of some lines together and sends the answers. It returns false if the client does
// not read them.
func (s *Server) acceptLines(ctx context.Context, who *auth.Identity, out *flusher, counted *account, lines [][]byte) bool {
	before := counted.counted
	defer func() { counted.give(counted.counted - before) }()
	needed := 0
	for _, line := range lines {
		needed += itemBytes + bodyCopies*len(line)
	}
	full := counted.take(needed)
	var request wire.Request
	answers := make([]durable.Accepted, len(lines))
	ids, wanted, places := make([][]byte, len(lines)), []durable.Request(nil), []int(nil)
	for i, line := range lines {
		refusal := s.parseLine(&request, line)
		var one durable.Request
		if refusal == nil {
			refusal = full
		}
		if refusal == nil {
			one, refusal = enqueued(&request, who)
		}
		ids[i], answers[i].Refusal = request.ID, refusal
		if refusal == nil {
			wanted, places = append(wanted, one), append(places, i)
		}
	}
	if len(wanted) > 0 {
		for n, answer := range s.service.Accept(ctx, who, wanted) {
			answers[places[n]] = answer
		}
	}
	return s.sendAccepted(ctx, out, counted, ids, answers)
}

// sendAccepted sends the answers of enqueues. An answer with a result, which may be large, is sent alone.
func (s *Server) sendAccepted(ctx context.Context, out *flusher, counted *account, ids [][]byte, answers []durable.Accepted) bool {
	var replies []byte
	for i := range answers {
		answer := &answers[i]
		isFinal := answer.Refusal == nil && answer.Task.State.Final()
		if isFinal {
			if !out.send(replies) {
				return false
			}
			replies, answer.Refusal = replies[:0], counted.reply()
		}
		if answer.Refusal != nil {
			s.counters.refuse(answer.Refusal.Code)
		}
		replies = s.service.AppendAccepted(ctx, replies, ids[i], answer)
		if isFinal && answer.Refusal == nil {
			if !out.send(replies) {
				return false
			}
			counted.give(replyBytes)
			replies = nil
		}
	}
	return out.send(replies)
}

// parseLine parses one line of the body.
func (s *Server) parseLine(request *wire.Request, line []byte) *task.Error {
	if len(line) > s.limits.Line {
		request.ID = nil
		return s.lineTooLong()
	}
	return parseAs(request, line, wire.OpEnqueue)
}

// intake reads lines from a body.
type intake struct {
	server  *Server
	life    context.Context // ends when the token of the client does
	counted *account
	body    io.Reader
	control *http.ResponseController
	buffer  []byte
	taken   int       // bytes of buffer whose lines were taken
	text    []byte    // the taken lines that next has not returned yet
	held    int       // bytes of buffer that were read, including the taken ones
	begun   time.Time // when the incomplete line began; the zero time: there is none
	talked  bool      // it is too late for a byte order mark
	atEnd   bool      // the body was read to its end
}

// fill reads once, and discards the lines that were taken. After the last read, end is the line that says why there
// is no more, or nil at the end of the body.
func (in *intake) fill() (end []byte, ended bool) {
	s := in.server
	in.held = copy(in.buffer, in.buffer[in.taken:in.held])
	in.taken = 0
	if in.held == len(in.buffer) {
		most := s.limits.Line + len("\r\n")
		if in.held >= most {
			return in.refuse(s.lineTooLong()), true
		}
		more := min(len(in.buffer), most-len(in.buffer))
		if refusal := in.counted.take(more); refusal != nil {
			return in.refuse(refusal), true
		}
		in.buffer = append(in.buffer, make([]byte, more)...)
	}
	_ = in.control.SetReadDeadline(in.due())
	if s.closing.Err() != nil || in.life.Err() != nil {
		_ = in.control.SetReadDeadline(time.Unix(1, 0))
	}
	n, err := in.body.Read(in.buffer[in.held:])
	in.held += n
	switch {
	case err == nil:
		return nil, false
	case errors.Is(err, io.EOF):
		in.atEnd = true
		return nil, true
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return in.refuse(s.bodyRefusal(err)), true
	case s.closing.Err() != nil:
		return wire.AppendGoaway(nil, task.Draining, 0), true
	case !in.begun.IsZero():
		refusal := task.Refuse(task.LineTimeout, "the line was not complete within %s of its first byte", s.limits.LineTimeout)
		refusal.Limit = "line-timeout"
		return in.refuse(refusal), true
	}
	return wire.AppendGoaway(nil, codeIdle, 0), true
}

// due returns the deadline of the next read.
func (in *intake) due() time.Time {
	if in.begun.IsZero() {
		return time.Now().Add(in.server.limits.Idle)
	}
	return in.begun.Add(in.server.limits.LineTimeout)
}

func (in *intake) refuse(refusal *task.Error) []byte {
	in.server.counters.refuse(refusal.Code)
	in.held = 0 // the refusal also answers an incomplete line
	return wire.AppendError(nil, nil, refusal)
}

// take takes the complete lines that were read, and at the end of the body also one without a line ending. They are
// valid until the next fill.
func (in *intake) take(ended bool) {
	text := in.buffer[:in.held]
	if !in.talked && (ended || len(text) >= len(byteOrderMark)) {
		in.talked = true
		in.held = copy(in.buffer, bytes.TrimPrefix(text, byteOrderMark))
		text = in.buffer[:in.held]
	}
	if !ended {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	in.text, in.taken = text, len(text)
	switch {
	case in.taken == in.held:
		in.begun = time.Time{}
	case in.taken > 0 || in.begun.IsZero():
		in.begun = time.Now()
	}
}

// next returns up to most of the taken lines, or none when all were returned. So a buffer full of tiny lines needs
// no more memory than the window of a connection.
func (in *intake) next(most int) [][]byte {
	var list [][]byte
	for len(in.text) > 0 && len(list) < most {
		line := in.text
		if end := bytes.IndexByte(in.text, '\n'); end >= 0 {
			line = in.text[:end+1]
		}
		in.text = in.text[len(line):]
		if len(bytes.TrimSpace(line)) > 0 {
			list = append(list, bytes.TrimRight(line, "\r\n"))
		}
	}
	return list
}

func (s *Server) lineTooLong() *task.Error {
	refusal := task.Refuse(task.LineTooLong, "the line is longer than %d bytes", s.limits.Line)
	refusal.Limit = "max-line"
	return refusal
}
