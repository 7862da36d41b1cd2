package check

import (
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// Counts are the figures of a run.
type Counts struct {
	Requests, OK, Fail, Info int
	Acknowledged, Lost       int // tasks
	Recovered                int // tasks that exist although their enqueue was not answered
	Tasks, Done              int
	Failed, Crashed          int
	Mistaken                 int // innocent tasks that ended crashed, which no store can prevent
	Cancelled, Retried       int
	Executions               int
	Again                    int // executions that were repeated after a death or a drain
	Duplicated               int // executions that succeeded after another one of the same generation
	Doubles                  int // final states that followed another one
	Stale                    int // outcomes that the store refused
	Faults                   map[string]int
	Deaths, Poisoned         int // deaths of processes, and how many of them under a poison task
	Kills, Busy              int // deaths by SIGKILL, and how many of them cut short an execution
	Cut                      int // executions that a death cut short
	Recovery                 Recovery
}

// Recovery is the time from the death of a process until its tasks ran again.
type Recovery struct {
	Count         int
	P50, P99, Max time.Duration
}

// count calculates the figures.
func (e *evidence) count() Counts {
	c := Counts{Faults: map[string]int{}, Stale: e.About.Stale, Tasks: len(e.Store)}
	acknowledged := map[string]bool{}
	for i := range e.Clients {
		event := &e.Clients[i]
		switch event.Kind {
		case history.Invoke:
			c.Requests++
		case history.OK:
			c.OK++
			if e.op(event) == "enqueue" {
				acknowledged[event.Reply.Task] = true
			}
		case history.Fail:
			c.Fail++
		case history.Info:
			c.Info++
		}
	}
	c.Acknowledged = len(acknowledged)
	for task := range acknowledged {
		if e.records[task] == nil {
			c.Lost++
		}
	}
	for i := range e.Store {
		e.countTask(&c, &e.Store[i], acknowledged)
	}
	e.countHappened(&c)
	c.Recovery = e.recovery()
	return c
}

func (e *evidence) countTask(c *Counts, r *history.Record, acknowledged map[string]bool) {
	if !acknowledged[r.Task] {
		c.Recovered++
	}
	switch {
	case r.Code == "crashed":
		c.Crashed++
		if deed(r) != "kill" && e.mistaken(r) {
			c.Mistaken++
		}
	case r.Status == "failed":
		c.Failed++
	case r.Status == "done":
		c.Done++
	case r.Status == "cancelled":
		c.Cancelled++
	}
	c.Retried += generations(r)
	for i := 1; i < len(r.Entries); i++ {
		if isFinal(r.Entries[i-1].Status) && r.Entries[i].Status != "queued" {
			c.Doubles++
		}
	}
	succeeded := 0
	for i, x := range e.journal[r.Task] {
		switch x.How {
		case history.Start:
			c.Executions++
			if i > 0 && e.journal[r.Task][i-1].How == history.Start {
				c.Again++
			}
		case history.Done:
			succeeded++
		}
	}
	c.Duplicated += max(0, succeeded-1-generations(r))
}

func (e *evidence) countHappened(c *Counts) {
	by := e.processes()
	for _, o := range e.Happened {
		switch o.What {
		case history.Up:
		case history.Death:
			c.died(&o, by[o.PID])
		default:
			c.Faults[o.What]++
		}
	}
}

// died counts the death of a process with these executions.
func (c *Counts) died(o *history.Occurrence, made []*history.Execution) {
	cut, poison := unended(made, o.At)
	c.Deaths++
	c.Cut += cut
	if poison {
		c.Poisoned++
	}
	if !strings.Contains(o.Note, "killed") {
		return
	}
	c.Kills++
	if cut > 0 {
		c.Busy++
	}
}

// processes returns the executions by process, in order.
func (e *evidence) processes() map[int][]*history.Execution {
	by := map[int][]*history.Execution{}
	for i := range e.Journal {
		by[e.Journal[i].PID] = append(by[e.Journal[i].PID], &e.Journal[i])
	}
	return by
}

// unended counts the executions of a process that had not ended at its death, and reports whether one of them was
// poison. An earlier process may have had the same id, long before.
func unended(list []*history.Execution, died int64) (n int, poison bool) {
	type attempt struct {
		task   string
		number int
	}
	open := map[attempt]*history.Execution{}
	for _, x := range list {
		switch key := (attempt{x.Task, x.Attempt}); {
		case x.At > died:
		case x.How == history.Start:
			open[key] = x
		default:
			delete(open, key)
		}
	}
	for _, x := range open {
		if x.At > died-int64(reused) {
			n, poison = n+1, poison || history.Deed(x.Action) == "kill"
		}
	}
	return n, poison
}

// reused is the time after which an id of a process may belong to another one.
const reused = time.Minute

// recovery returns, for each execution that a death cut short, when the task ran again.
func (e *evidence) recovery() Recovery {
	deaths := map[int][]int64{} // by process; an id may be used again
	for _, o := range e.Happened {
		if o.What == history.Death {
			deaths[o.PID] = append(deaths[o.PID], o.At)
		}
	}
	var took []time.Duration
	for _, list := range e.journal {
		for i, x := range list[:max(len(list)-1, 0)] {
			next := list[i+1]
			if x.How != history.Start || next.How != history.Start || next.PID == x.PID {
				continue
			}
			between := func(at int64) bool { return at > x.At && at < next.At }
			if death := slices.IndexFunc(deaths[x.PID], between); death >= 0 {
				took = append(took, time.Duration(next.At-deaths[x.PID][death]))
			}
		}
	}
	if len(took) == 0 {
		return Recovery{}
	}
	slices.Sort(took)
	return Recovery{Count: len(took), P50: took[len(took)/2], P99: took[len(took)*99/100], Max: took[len(took)-1]}
}
