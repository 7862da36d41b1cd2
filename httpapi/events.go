package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	eventStream = "text/event-stream"
	// heartbeat is how often something is written to a quiet stream, so that no proxy closes it. Proxies usually
	// have a timeout of a minute.
	heartbeat = 15 * time.Second
	// reconnect makes browsers reconnect soon after a node drains. The number is milliseconds.
	reconnect = "retry: 1000\n\n"
)

// watchResult is an event of a watch, or its refusal.
type watchResult struct {
	event   durable.Event
	refusal *task.Error
}

// events streams a task's history and the progress that its action reports, until the task is finished. A browser that
// reconnects sends Last-Event-ID, and the stream continues there. If the browser has every event of a finished task, the
// answer is 204, so that it does not reconnect.
//
//	→ GET /v1/tasks/01J…/events
//	← 200 id: 1
//	      event: state
//	      data: {"status":"queued","task":"01J…","attempt":0,"seq":1,"at":"…"}
func (s *Server) events(w http.ResponseWriter, r *http.Request) *task.Error {
	request, refusal := watched(r)
	if refusal != nil {
		return refusal
	}
	id, after := request.Options.Task, request.Options.After
	own, refusal := service.NewRequest(request, identityOf(r))
	if refusal != nil {
		return refusal
	}
	t, refusal := s.service.Get(r.Context(), identityOf(r), id)
	if refusal != nil {
		return refusal
	}
	if seq := lastSeq(&t); t.State.Final() && after >= seq && r.Header.Get("Last-Event-ID") != "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.takeLasting(streamBytes); refusal != nil {
		return refusal
	}
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("X-Accel-Buffering", "no") // otherwise Nginx would buffer the events
	out := &flusher{server: s, w: w}
	if !out.send([]byte(reconnect)) || r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s.stream(ctx, out, counted, own)
	return nil
}

// watched returns where a watch begins: after Last-Event-ID, or after the query parameter.
func watched(r *http.Request) (*wire.Request, *task.Error) {
	members := []member{textMember("task", r.PathValue("task"))}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		members = append(members, wordMember("after", last))
	} else {
		members = append(members, queryMembers(r.URL.Query(), "after")...)
	}
	return lineOf(wire.OpWatch, members...)
}

func lastSeq(t *task.Task) int {
	if n := len(t.History); n > 0 {
		return t.History[n-1].Seq
	}
	return 0
}

// watch sends the events of a watch to a channel until the watch or ctx ends.
func (s *Server) watch(ctx context.Context, request *service.Request) <-chan watchResult {
	events := make(chan watchResult)
	go func() {
		defer close(events)
		for event, refusal := range s.service.Watch(ctx, request) {
			select {
			case events <- watchResult{event, refusal}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events
}

// stream writes the events as they arrive, and a comment after a quiet period.
func (s *Server) stream(ctx context.Context, out *flusher, counted *account, request *service.Request) {
	events := s.watch(ctx, request)
	beat := time.NewTicker(s.heartbeat())
	defer beat.Stop()
	for {
		var text []byte
		select {
		case one, more := <-events:
			if !more {
				return
			}
			if one.event.Final != nil {
				one.refusal = counted.reply()
			}
			text = s.appendEvent(ctx, request, &one)
		case <-beat.C:
			text = []byte(": still here\n\n")
		}
		if !out.send(text) {
			return
		}
	}
}

// heartbeat returns how often something is written to a client that receives nothing else.
func (s *Server) heartbeat() time.Duration { return min(heartbeat, s.limits.Idle/2) }

// appendEvent appends one event. state and final have the number of their entry as id. progress and refusal have no
// id, so a reconnecting browser never gets them again.
func (s *Server) appendEvent(ctx context.Context, request *service.Request, one *watchResult) []byte {
	kind, seq := "state", one.event.Entry.Seq
	var line []byte
	switch {
	case one.refusal != nil:
		s.counters.refuse(one.refusal.Code)
		kind, seq, line = "refusal", 0, wire.AppendError(nil, nil, one.refusal)
	case one.event.Final != nil:
		kind = "final"
	case one.event.Progress != nil:
		kind, seq = "progress", 0
	}
	if line == nil {
		line = s.service.AppendEvent(ctx, nil, request, &one.event)
	}
	var text []byte
	if seq > 0 {
		text = append(strconv.AppendInt(append(text, "id: "...), int64(seq), 10), '\n')
	}
	text = append(append(append(text, "event: "...), kind...), "\ndata: "...)
	return append(append(text, bytes.TrimSuffix(wire.Bare(line), []byte("\n"))...), "\n\n"...)
}

// flusher writes an answer in parts, each within the write timeout.
type flusher struct {
	server *Server
	w      http.ResponseWriter
}

// send writes and flushes a part. It reports whether the client has taken it.
func (f *flusher) send(part []byte) bool {
	control := http.NewResponseController(f.w)
	_ = control.SetWriteDeadline(time.Now().Add(f.server.limits.WriteTimeout))
	if _, err := f.w.Write(part); err != nil {
		return false
	}
	return control.Flush() == nil
}
