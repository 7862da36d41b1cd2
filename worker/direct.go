package worker

import (
	"fmt"
	"slices"
)

// directs is the direct runs that wait for a worker. The mutex of the pool guards it.
type directs struct {
	byAction map[string][]*lease
	n        int
}

// Run gives a direct run to a worker that has its action, as soon as one has a free slot. Ended is called once. cancel ends
// a run that waits, and with running also one that a worker has: it returns true if no worker had it, and Ended is not
// called then. ok is false if too many runs wait.
func (p *Pool) Run(t Task) (cancel func(running bool) bool, ok bool) {
	l := &lease{Task: t}
	p.mu.Lock()
	p.runs++
	l.id = fmt.Sprintf("%s-%d.0", p.prefix, p.runs)
	full := p.direct.n >= directMost
	p.mu.Unlock()
	if full {
		return nil, false
	}
	p.run(l)
	return func(running bool) bool { return p.cancelRun(l, running) }, true
}

// run gives a direct run to a worker, or has it wait for one.
func (p *Pool) run(l *lease) {
	p.mu.Lock()
	groups := p.direct.groups(p.byAction[l.Action])
	if len(groups) == 0 {
		p.mu.Unlock()
		l.Ended(Ending{Kind: Gone, Cause: Left})
		return
	}
	var best *Stream
	for _, g := range groups {
		if s := g.pick(false); s != nil && (best == nil || s.free() > best.free()) {
			best = s
		}
	}
	if best == nil || len(p.direct.byAction[l.Action]) > 0 {
		p.direct.byAction[l.Action] = append(p.direct.byAction[l.Action], l)
		p.direct.n++
		p.mu.Unlock()
		return
	}
	p.take(best, l)
	p.mu.Unlock()
	p.deliver(best, l)
}

// dispatch gives the free slots of a stream to direct runs that wait.
func (p *Pool) dispatch(s *Stream) {
	for {
		p.mu.Lock()
		if p.direct.n == 0 || s.poll != nil || s.free() == 0 {
			p.mu.Unlock()
			return
		}
		l := p.direct.next(s.Actions)
		if l == nil {
			p.mu.Unlock()
			return
		}
		p.take(s, l)
		p.mu.Unlock()
		p.deliver(s, l)
	}
}

// groups returns the groups whose workers take direct runs: those with connections.
func (d *directs) groups(all []*Group) (some []*Group) {
	for _, g := range all {
		if !g.polls {
			some = append(some, g)
		}
	}
	return some
}

// Runs reports whether a worker of this process takes direct runs of an action.
func (p *Pool) Runs(action string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.direct.groups(p.byAction[action])) > 0
}

// next removes the next run of one of these actions.
func (d *directs) next(actions []string) *lease {
	for _, action := range actions {
		if list := d.byAction[action]; len(list) > 0 {
			first := list[0]
			d.remove(first)
			return first
		}
	}
	return nil
}

// remove removes a run that waits. It returns false if it does not.
func (d *directs) remove(l *lease) bool {
	list := d.byAction[l.Action]
	i := slices.Index(list, l)
	if i < 0 {
		return false
	}
	d.n--
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(d.byAction, l.Action)
	} else {
		d.byAction[l.Action] = list
	}
	return true
}

// unserved removes the runs that wait for actions that no worker has any more. The caller holds mu.
func (p *Pool) unserved(actions []string) (gone []*lease) {
	for _, action := range actions {
		if len(p.direct.groups(p.byAction[action])) == 0 {
			gone = append(gone, p.direct.byAction[action]...)
			p.direct.n -= len(p.direct.byAction[action])
			delete(p.direct.byAction, action)
		}
	}
	return gone
}

// cancelRun ends a run, since its client has gone.
func (p *Pool) cancelRun(l *lease, running bool) (waited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.direct.remove(l) {
		return true
	}
	if running && p.leases[l.id] == l && !l.isOver && l.code == "" {
		l.stop(cancelledCode)
		if l.timer != nil {
			l.timer.Reset(stopGrace)
		}
	}
	return false
}

// ErrorOf returns what a client reads about a direct run that did not succeed.
func ErrorOf(ending Ending, action string, timeout string) string {
	switch {
	case ending.Kind == Failed:
		return ending.Error
	case ending.Kind == TimedOut:
		return "timed out after " + timeout
	case ending.Kind == Cancelled, ending.Kind == Released:
		return "cancelled"
	case ending.Kind == Gone && ending.Cause == Left:
		return fmt.Sprintf("no worker has the action %s any more", action)
	}
	return "the worker that ran it has gone"
}
