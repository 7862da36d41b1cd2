package worker

import (
	"fmt"
	"maps"
	"slices"
)

// directs has the direct runs that wait for a worker. The mutex of the pool guards it.
type directs struct {
	byAction map[string][]*lease
	n        int
	total    uint64 // all direct runs so far
}

// Run pushes a direct run to a worker that has its action, as soon as one has a free slot. It does not wait for the result:
// t.Ended is called once with it, on any goroutine, perhaps before Run returns. ok is false if too many runs wait; Ended is
// not called then.
//
// cancel removes a run that waits: it returns true, and Ended is not called. If the run was pushed, cancel returns false;
// with running, it also asks the worker to stop. cancel may be called at any time, also after the end of the run.
func (p *Pool) Run(t Task) (cancel func(running bool) bool, ok bool) {
	l := &lease{Task: t}
	p.mu.Lock()
	p.direct.total++
	l.id = fmt.Sprintf("%s-%d.0", p.prefix, p.direct.total)
	full := p.direct.n >= directMost
	p.mu.Unlock()
	if full {
		return nil, false
	}
	p.run(l)
	return func(running bool) bool { return p.cancelRun(l, running) }, true
}

// run pushes a direct run to a worker, or queues it until a worker has a free slot.
func (p *Pool) run(l *lease) {
	p.mu.Lock()
	if !p.runs(l.Action) {
		p.mu.Unlock()
		l.Ended(Ending{Kind: Gone, Cause: Left})
		return
	}
	var best *Stream
	for _, g := range p.byAction[l.Action] {
		if s := g.pick(false); s != nil && s.poll == nil && (best == nil || s.free() > best.free()) {
			best = s
		}
	}
	if best == nil || len(p.direct.byAction[l.Action]) > 0 {
		p.direct.byAction[l.Action] = append(p.direct.byAction[l.Action], l)
		p.direct.n++
		p.mu.Unlock()
		return
	}
	p.assign(best, l)
	p.mu.Unlock()
	p.deliver(best, l)
}

// dispatch pushes waiting direct runs to a stream while it has free slots.
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
		p.assign(s, l)
		p.mu.Unlock()
		p.deliver(s, l)
	}
}

// Runs reports whether a worker of this process accepts direct runs of an action.
func (p *Pool) Runs(action string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs(action)
}

// IsFree reports whether a direct run of an action would be given to a worker at once.
func (p *Pool) IsFree(action string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.direct.byAction[action]) == 0 && slices.ContainsFunc(p.byAction[action], func(g *Group) bool {
		return !g.polls && g.pick(false) != nil
	})
}

// Idempotent returns the actions whose direct runs all workers of a node allow to be sent to another one, sorted.
func (p *Pool) Idempotent(node string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	allowed := map[string]bool{}
	for s := range p.streams {
		if s.Node != node || s.poll != nil {
			continue
		}
		for _, action := range s.Actions {
			before, known := allowed[action]
			allowed[action] = (before || !known) && slices.Contains(s.Idempotent, action)
		}
	}
	maps.DeleteFunc(allowed, func(_ string, all bool) bool { return !all })
	return slices.Sorted(maps.Keys(allowed))
}

// runs is Runs. Only a worker with a connection accepts direct runs. The caller holds mu.
func (p *Pool) runs(action string) bool {
	return slices.ContainsFunc(p.byAction[action], func(g *Group) bool { return !g.polls })
}

// next removes and returns the next run of one of these actions, or nil if none waits.
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

// remove removes a waiting run. It returns false if the run does not wait.
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

// takeUnserved removes and returns the waiting runs whose action no worker has any more. The caller holds mu.
func (p *Pool) takeUnserved(actions []string) (gone []*lease) {
	for _, action := range actions {
		if !p.runs(action) {
			gone = append(gone, p.direct.byAction[action]...)
			p.direct.n -= len(p.direct.byAction[action])
			delete(p.direct.byAction, action)
		}
	}
	return gone
}

// cancelRun removes a waiting run. If running is true, it asks the worker of a pushed run to stop.
func (p *Pool) cancelRun(l *lease, running bool) (waited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.direct.remove(l) {
		return true
	}
	if running && p.leases[l.id] == l {
		l.cancel()
	}
	return false
}

// Failure returns the error text of a direct run for its client, or "" if it is done. It has no text for TimedOut, which the
// caller handles.
func (e *Ending) Failure(action string) string {
	switch {
	case e.Kind == Done:
		return ""
	case e.Kind == Failed:
		return e.Error
	case e.Kind == Cancelled, e.Kind == Released:
		return "cancelled"
	case e.Kind == Gone && e.Cause == Left:
		return fmt.Sprintf("no worker has the action %s any more", action)
	}
	return "the worker that ran it has gone"
}
