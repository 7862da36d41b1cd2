package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// redial is how long a worker waits before it connects again.
const redial = 20 * time.Millisecond

// worker sends requests over one connection after the other.
type worker struct {
	*Load
	number int
	random *rand.Rand
	turns  int
}

func (w *worker) run(ctx context.Context, enough <-chan struct{}) {
	for ctx.Err() == nil {
		s := w.dial(ctx)
		if s == nil {
			rest(ctx, redial)
			continue
		}
		if w.talk(ctx, s, enough) {
			s.leave(ctx)
			return
		}
		if isClosed(s.away) {
			s.leave(ctx) // open requests are still answered
			continue
		}
		s.conn.Close()
		<-s.broken
	}
}

// talk uses a connection until it breaks or the node sends goaway. It returns true if there is nothing more to send.
func (w *worker) talk(ctx context.Context, s *session, enough <-chan struct{}) bool {
	for {
		select {
		case <-s.broken:
			return false
		case <-s.away:
			return false
		case <-ctx.Done():
			return true
		case <-time.After(time.Until(w.due())):
		}
		w.turns++
		if w.tasks.Load() >= int64(w.config.Tasks) && isClosed(enough) {
			if _, owed := w.known.debt(); !owed {
				return true
			}
		}
		if list := w.next(isClosed(enough)); len(list) > 0 && !s.send(ctx, list...) {
			return ctx.Err() != nil
		}
	}
}

// tasksATurn is how many new tasks a turn has on average, in hundredths.
const tasksATurn = 71

// due returns the time of the next turn. It spreads the tasks over the run.
func (w *worker) due() time.Time {
	turns := float64(w.config.Tasks) * 100 / tasksATurn / float64(w.config.Connections)
	return w.began.Add(time.Duration(float64(w.config.Over) * float64(w.turns) / max(turns, 1)))
}

// next chooses the requests of a turn. If last, it enqueues no more new tasks than the configuration asks for.
func (w *worker) next(last bool) []request {
	n := w.random.IntN(100)
	if r, owed := w.known.debt(); owed && n%10 == 0 {
		return []request{r}
	}
	if n < tasksATurn {
		return w.newTask(n, last)
	}
	switch {
	case n < 74:
		r, ok := w.known.key(w.random)
		if !ok {
			return nil
		}
		if n == 73 { // the same key with another payload is refused
			r.Payload, r.nonce = r.nonce+"-other", r.nonce+"-other"
			r.Action = "upper"
		}
		return []request{r}
	case n < 82:
		return w.about("get")
	case n < 85:
		return w.about("wait")
	case n < 92:
		return w.about("cancel")
	case n < 97:
		return w.about("retry")
	case n < 99:
		return []request{{Op: "list", Limit: 1 + w.random.IntN(100)}}
	}
	return []request{{Op: "queues"}}
}

// newTask enqueues a new task, if any is left. Some have a key, and some of these are sent twice at the same time.
func (w *worker) newTask(n int, last bool) []request {
	if last && w.tasks.Load() >= int64(w.config.Tasks) {
		return w.about("get")
	}
	number := int(w.tasks.Add(1))
	poison := false
	if w.config.Poison > 0 && number <= w.config.Tasks {
		each := max(w.config.Tasks/w.config.Poison, 1)
		poison = number%each == each*3/4
	}
	r := w.enqueue(number, poison)
	if !poison && n >= 15 {
		return []request{r}
	}
	r.Key = fmt.Sprintf("k%d", number)
	if poison {
		w.known.owe(r)
		return []request{r}
	}
	w.known.addKeyed(r)
	if n < 5 {
		return []request{r}
	}
	return []request{r, r}
}

// about sends an op about a known task.
func (w *worker) about(op string) []request {
	task := w.known.task(w.random, op == "cancel" && w.random.IntN(2) == 0)
	if task == "" {
		return nil
	}
	r := request{Op: op, Task: task}
	if op == "wait" {
		r.Timeout = float64(1+w.random.IntN(20)) / 10
	}
	return []request{r}
}

// rest waits for d or for the end of ctx.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
