package executor

import (
	"bytes"
	"time"
)

// Remote runs tasks of actions that the node does not have itself.
type Remote interface {
	// Has reports whether it has an action.
	Has(action string) bool
	// Run runs a task, now or when there is room, and calls ended once with its result object. cancel ends a task that
	// waits, and with running also one that runs:
	// if it returns true, the task had not begun, and ended is not called. If too many tasks wait, ok is false and nothing
	// is done.
	Run(t Task, ended func(result []byte, outcome Outcome)) (cancel func(running bool) bool, ok bool)
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
	if !s.e.hasRemote(t.Action) {
		deliver(t, s.e.refuseUnknown(nil, t))
		return
	}
	t.ID, t.Action, t.Payload = bytes.Clone(t.ID), bytes.Clone(t.Action), bytes.Clone(t.Payload)
	if t.Timeout <= 0 {
		t.Timeout = s.e.config.TaskTimeout
	}
	began, run := s.e.now(), &remoteRun{}
	s.e.running.Add(1)
	cancel, ok := s.e.config.Remote.Run(t, func(result []byte, outcome Outcome) {
		s.removeElsewhere(run)
		took := s.e.now() - began
		s.e.sample.see(t, string(t.Action), outcome, took)
		deliver(t, result)
		s.e.running.Done()
	})
	if !ok {
		s.e.running.Done()
		deliver(t, appendFailure(nil, "too many runs wait for workers of action "+string(t.Action)))
		return
	}
	s.addElsewhere(run, cancel)
}

// addElsewhere notes that a task runs elsewhere, unless it has ended.
func (s *Source) addElsewhere(run *remoteRun, cancel func(running bool) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if run.ended {
		return
	}
	run.cancel = cancel
	if s.elsewhere == nil {
		s.elsewhere = make(map[*remoteRun]struct{})
	}
	s.elsewhere[run] = struct{}{}
	if s.cancelled {
		time.AfterFunc(0, func() { s.dropElsewhere(true) })
	}
}

// removeElsewhere notes that a task has ended that ran elsewhere.
func (s *Source) removeElsewhere(run *remoteRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run.ended = true
	delete(s.elsewhere, run)
}

// dropElsewhere forgets the tasks that wait elsewhere and returns how many they were. With all, it also cancels those that
// run.
func (s *Source) dropElsewhere(all bool) (n int) {
	s.mu.Lock()
	list := make([]*remoteRun, 0, len(s.elsewhere))
	for run := range s.elsewhere {
		list = append(list, run)
	}
	s.mu.Unlock()
	for _, run := range list {
		if run.cancel(all) {
			n++
			s.removeElsewhere(run)
			s.e.running.Done()
		}
	}
	return n
}
