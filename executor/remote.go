package executor

import (
	"bytes"
	"maps"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// DataPrefix begins the result object of an action whose only member is its data; the data and a brace follow.
const DataPrefix = successPrefix + `"data":`

// DataResult returns the result object of an action that has returned data. Nil data stands for null.
func DataResult(data []byte) []byte {
	if data == nil {
		data = nullPayload[:]
	}
	result := make([]byte, 0, len(DataPrefix)+len(data)+1)
	return append(append(append(result, DataPrefix...), data...), '}')
}

// FailedResult returns the result object of a task that has failed.
func FailedResult(text string) []byte { return appendFailure(nil, text) }

// Remote runs tasks of actions that the node does not have itself.
type Remote interface {
	// Has reports whether it has an action.
	Has(action string) bool
	// IsFree reports whether a task of the action would begin at once.
	IsFree(action string) bool
	// Run runs a task, now or when there is room. It calls ended once: with the data, or, unless the outcome is Done, with
	// the failure. If too many tasks wait, ok is false and nothing is done.
	//
	// cancel ends a task that waits, and with running also one that runs. If it returns true, the task had not begun, and
	// ended is not called.
	Run(t Task, ended func(outcome Outcome, data []byte, failure string)) (cancel func(running bool) bool, ok bool)
}

// hasRemote reports whether an action that the node does not have is one of Remote's.
func (e *Executor) hasRemote(action []byte) bool {
	return e.config.Remote != nil && e.config.Remote.Has(string(action))
}

// remoteRun is a task that runs elsewhere.
type remoteRun struct {
	cancel func(running bool) bool
	ended  bool
}

// startElsewhere has Remote run a task whose action the node does not have.
func (s *Source) startElsewhere(t Task, deliver func(Task, []byte)) {
	isRemote := s.e.hasRemote(t.Action)
	if !isRemote && !s.e.hasPeer(&t) {
		deliver(t, s.e.refuseUnknown(nil, t))
		return
	}
	t.ID, t.Action, t.Payload = bytes.Clone(t.ID), bytes.Clone(t.Action), bytes.Clone(t.Payload)
	if t.Timeout <= 0 {
		t.Timeout = s.e.config.TaskTimeout
	}
	switch {
	case !isRemote:
		s.passOnMissing(t, deliver)
	case s.e.config.Peers == nil || t.PassedOn != "" || s.e.config.Remote.IsFree(string(t.Action)):
		s.startRemote(t, deliver)
	default:
		route := s.e.config.Peers.Route(string(t.Action), task.PassedOnFull)
		if route == nil {
			s.startRemote(t, deliver)
			return
		}
		s.passOn(&pass{task: t, why: task.PassedOnFull, route: route, deliver: deliver, back: func() { s.startRemote(t, deliver) }})
	}
}

// startRemote has Remote run a task. The source keeps the slices of the task.
func (s *Source) startRemote(t Task, deliver func(Task, []byte)) {
	began, run := s.e.now(), &remoteRun{}
	s.e.running.Add(1)
	cancel, ok := s.e.config.Remote.Run(t, func(outcome Outcome, data []byte, failure string) {
		s.removeElsewhere(run)
		s.e.sample.see(t, string(t.Action), outcome, s.e.now()-began)
		if outcome == Done {
			deliver(t, DataResult(data))
		} else {
			deliver(t, appendFailure(nil, failure))
		}
		s.e.running.Done()
	})
	if !ok {
		s.e.running.Done()
		deliver(t, appendFailure(nil, "too many runs wait for workers of action "+string(t.Action)))
		return
	}
	if s.addElsewhere(run, cancel) {
		s.dropElsewhere(true)
	}
}

// addElsewhere adds a task that runs elsewhere, unless it has ended. It reports whether the source was cancelled before.
func (s *Source) addElsewhere(run *remoteRun, cancel func(running bool) bool) (cancelled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if run.ended {
		return false
	}
	run.cancel = cancel
	if s.elsewhere == nil {
		s.elsewhere = make(map[*remoteRun]struct{})
	}
	s.elsewhere[run] = struct{}{}
	return s.cancelled
}

// removeElsewhere removes a task that has ended.
func (s *Source) removeElsewhere(run *remoteRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run.ended = true
	delete(s.elsewhere, run)
}

// dropElsewhere discards the tasks that wait elsewhere and returns their number. With running, it also cancels those that
// run.
func (s *Source) dropElsewhere(running bool) (n int) {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.elsewhere))
	s.mu.Unlock()
	for _, run := range list {
		if run.cancel(running) {
			n++
			s.removeElsewhere(run)
			s.e.running.Done()
		}
	}
	return n
}
