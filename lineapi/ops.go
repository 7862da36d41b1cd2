package lineapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// handler answers one request into b.out. If kept is false, another goroutine reads the connection and b must not be
// used any more.
type handler func(c *conn, b *batch) (kept bool, err error)

// handlerOf is the table of ops.
func handlerOf(op wire.Op) handler {
	switch op {
	case wire.OpRun:
		return run
	case wire.OpPing:
		return ping
	case wire.OpInfo:
		return info
	case wire.OpAuth:
		return authenticate
	case wire.OpEnqueue:
		return enqueue
	case wire.OpWork:
		return beginWork
	case wire.OpFinish, wire.OpFail, wire.OpRelease:
		return finishAttempt
	case wire.OpProgress:
		return reportProgress
	case wire.OpSlots:
		return setSlots
	case wire.OpLeave:
		return leaveWork
	}
	return durably // get, wait, watch, cancel, retry, list, queues, pause, resume
}

// handle answers one line. An error ends the connection.
func (c *conn) handle(b *batch, line []byte) (kept bool, err error) {
	if len(line) > c.maxLine() {
		return true, c.refuse(b, nil, c.lineTooLong())
	}
	if isBlank(line) {
		return true, nil
	}
	r := &b.req
	if e := r.Parse(line, c.server.op); e != nil {
		err := c.refuse(b, r.ID, e)
		if looksLikeHTTP(line) {
			err = c.leaveRefused(e.Code)
		}
		return true, err
	}
	if c.identity == nil && r.Op != wire.OpAuth && r.Op != wire.OpPing {
		return true, c.refuse(b, r.ID, task.Refuse(task.Unauthenticated, "a token is needed: send {\"op\":\"auth\",\"token\":…} first"))
	}
	if e := r.Validate(); e != nil {
		return true, c.refuse(b, r.ID, e)
	}
	op := r.Op
	if op == wire.OpCancel && r.Options.Run != nil { // the grant to run also allows to cancel the run
		op = wire.OpRun
	}
	if e := c.permit(op); e != nil {
		c.server.stats.refused(e.Code)
		b.out = wire.AppendError(b.out, r.ID, e)
		return true, nil
	}
	fail.Point("line.read")
	return handlerOf(r.Op)(c, b)
}

// permit refuses an op that the client may not ask for, or that this node does not have.
func (c *conn) permit(op wire.Op) *task.Error {
	if op == wire.OpAuth || op == wire.OpPing { // also of a client that is not known yet
		return nil
	}
	if !c.identity.Expires.IsZero() && c.identity.IsOver(time.Now()) { // the connection has a while for another auth
		return refuseOver()
	}
	if refusal := service.Admit(c.identity, op); refusal != nil {
		return refusal
	}
	if op.IsOfWorker() {
		return c.server.workers.Unavailable()
	}
	return nil
}

// looksLikeHTTP reports whether a refused line is the request line of HTTP. A web page can make a browser send a
// request with any method, and the page also chooses what follows that line. So the rest must not be read as lines.
func looksLikeHTTP(line []byte) bool {
	method, rest, found := bytes.Cut(line, []byte{' '})
	version := rest[bytes.LastIndexByte(rest, ' ')+1:]
	const name = "http/"
	return found && !bytes.ContainsAny(method, "{[\"") && len(version) > len(name) && bytes.EqualFold(version[:len(name)], []byte(name))
}

// refuse writes an error reply. Some errors end the connection.
func (c *conn) refuse(b *batch, id []byte, e *task.Error) error {
	c.server.stats.refused(e.Code)
	b.out = wire.AppendError(b.out, id, e)
	switch e.Code {
	case task.LineTooLong, task.LineTimeout, task.Unauthenticated:
		return c.leaveRefused(e.Code)
	}
	return nil
}

// run: {"id":1,"action":"upper","payload":"hola"} → {"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}
func run(c *conn, b *batch) (kept bool, err error) {
	r := &b.req
	if refusal := service.MayRun(c.identity, r.Action); refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	if r.PassedOn != "" {
		return true, c.runPassedOn(b)
	}
	t := executor.Task{ID: r.ID, Action: r.Action, Payload: r.Payload, Timeout: r.Timeout}
	if len(b.accepts) > 0 {
		c.accept(b) // earlier requests may be answered while this one takes long
	}
	if c.server.budget.Full() {
		if refusal, err := c.awaitRoom(b); err != nil {
			return true, err
		} else if refusal != nil {
			return true, c.refuse(b, r.ID, refusal)
		}
	}
	result, fate := b.lane.Run(t)
	switch fate {
	case executor.IsLost:
		return false, nil
	case executor.IsSlow:
		return true, c.start(b, t)
	}
	b.out = wire.AppendDone(b.out, t.ID, result)
	return true, nil
}

// start runs a slow task in a slot. If too many tasks wait already, the connection waits too.
func (c *conn) start(b *batch, t executor.Task) error {
	if refusal, err := c.admit(b, requestBytes+len(t.Payload)); err != nil {
		return err
	} else if refusal != nil {
		return c.refuse(b, t.ID, refusal)
	}
	full := c.out.begin(len(t.Payload))
	if c.source.TryStart(t, c.deliver) {
		if full {
			return c.pause(b, c.out.await)
		}
		return nil
	}
	return c.pause(b, func() {
		if !c.source.Start(t, c.deliver) { // the client has disconnected
			c.out.end(1, len(t.Payload))
		}
		c.out.await()
	})
}

// ping: {"id":1,"op":"ping"} → {"id":1,"status":"done","result":{"ok":true,"data":"pong"}}
func ping(c *conn, b *batch) (bool, error) {
	if !c.server.probed.Load() {
		c.server.probed.Store(true)
	}
	b.out = wire.AppendDone(b.out, b.req.ID, []byte(`{"ok":true,"data":"pong"}`))
	return true, nil
}

// infoResult is the result of op info.
type infoResult struct {
	OK       bool           `json:"ok"`
	Node     string         `json:"node"`
	Version  string         `json:"version"`
	Protocol int            `json:"protocol"`
	Features []string       `json:"features"`
	Actions  []string       `json:"actions"`
	Slots    int            `json:"slots"`
	Limits   map[string]any `json:"limits"`
	Draining bool           `json:"draining"`
	Time     time.Time      `json:"time"`
}

// info: {"id":1,"op":"info"} → {"id":1,"status":"done","result":{"ok":true,"node":"n1","version":"…","protocol":1,…}}
func info(c *conn, b *batch) (bool, error) {
	s := c.server
	slots, _ := s.config.Executor.Limits()
	limits := s.config.Limits
	values := make(map[string]any)
	for _, limit := range limits.Table() {
		values[limit.Key()] = limit.Number()
	}
	text, err := json.Marshal(infoResult{
		OK: true, Node: s.config.Node, Version: s.config.Version, Protocol: 1,
		Features: []string{"work"}, Actions: s.actions(c.identity), Slots: slots, Limits: values, Draining: s.draining.Load(),
		Time: time.Now().UTC(),
	})
	if err != nil {
		return true, c.refuse(b, b.req.ID, task.Refuse(task.Internal, "info: %v", err))
	}
	b.out = wire.AppendDone(b.out, b.req.ID, text)
	return true, nil
}

// actions returns the names of the actions that the node can run, its workers' included, as far as a grant of the client is
// about them.
func (s *Server) actions(who *auth.Identity) []string {
	list := s.config.Executor.Actions()
	if s.workers != nil {
		list = slices.Concat(list, s.workers.Pool.Actions(""))
	}
	known := []string{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(list))) {
		if auth.Knows(who, name) {
			known = append(known, name)
		}
	}
	return known
}

// authenticate: {"id":1,"op":"auth","token":"…"} → {"id":1,"status":"done","result":{"ok":true,"name":"ci","scopes":["all"]}}
func authenticate(c *conn, b *batch) (bool, error) {
	verifier := &c.server.verifier
	if !verifier.IsOpen() || verifier.Keys != nil && auth.LooksLikeOurs(b.req.Token) {
		identity := verifier.Check(c.server.forced, b.req.Token)
		if identity == nil {
			c.identity = nil
			return true, c.refuse(b, b.req.ID, task.Refuse(task.Unauthenticated, "the token is not known"))
		}
		c.accept(b) // as the client that has sent them
		c.endStreams(identity)
		c.become(identity)
	}
	text, err := json.Marshal(struct {
		OK     bool     `json:"ok"`
		Name   string   `json:"name"`
		Scopes []string `json:"scopes"`
	}{true, c.identity.Name, c.identity.Scopes()})
	if err != nil {
		return true, c.refuse(b, b.req.ID, task.Refuse(task.Internal, "auth: %v", err))
	}
	b.out = wire.AppendDone(b.out, b.req.ID, text)
	return true, nil
}

// unavailable: {"id":1,"op":"enqueue","action":"upper"} → {"id":1,"status":"error","code":"unavailable",…}
func unavailable(c *conn, b *batch) (bool, error) {
	return true, c.refuse(b, b.req.ID, task.Refuse(task.Unavailable, "op %s needs a store, and this node has none", b.req.Op))
}
