package rabbitmq

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// unsettled is the prefetch of a lane by priority. The numbers follow the weights of the priorities,
// and keep a fast node busy while acknowledgements travel.
var unsettled = map[task.Priority]int{task.High: 64, task.Normal: 32, task.Low: 8}

// restAfter is how long a taker keeps ids that nobody takes. Then it gives them back.
const restAfter = 250 * time.Millisecond

// cancelledPause is the pause before a cancelled consumer begins again: the connection may be about to
// end, and whoever deleted the queue may be about to make another one.
const cancelledPause = 100 * time.Millisecond

// listIDs is more than the prefetched messages of all lanes hold, so that the list drops nothing.
const listIDs = 1 << 24

// taker is a broker.Taker.
type taker struct {
	broker  *Broker
	what    broker.Interest
	actions map[string]bool

	// work is held while the taker begins or stops to consume, which asks the server.
	work sync.Mutex

	mu      sync.Mutex // guards the fields below
	closed  bool
	stock   *stock        // ids that have arrived
	channel channel       // nil: the server is away, or the taker has given its messages back
	conn    connection    // the channel's
	lanes   map[lane]bool // lanes that it consumes from
	taking  int           // current Takes
	rest    *time.Timer   // runs while ids wait and there is no Take
}

// stock is a taker's list with the messages of its ids. It is dropped together with its channel.
type stock struct {
	list    *broker.Memory
	from    broker.Taker
	settle  func(tag uint64) error
	waiting map[string][]*held // messages, by the ids in the list
	taken   []*held            // for each id that was taken and not acknowledged, its message
}

// held is a message with unacknowledged ids.
type held struct {
	tag  uint64
	left int // ids
}

func newTaker(b *Broker, what broker.Interest) *taker {
	t := &taker{broker: b, what: broker.Interest{Queues: slices.Clone(what.Queues), Actions: slices.Clone(what.Actions)}}
	t.actions = map[string]bool{}
	for _, action := range t.what.Actions {
		t.actions[action] = true
	}
	t.rest = time.AfterFunc(time.Hour, t.giveBack)
	t.rest.Stop()
	t.stock = t.newStock()
	return t
}

// newStock returns an empty stock. Its first Take returns Behind.
func (t *taker) newStock() *stock {
	list := broker.NewMemory(broker.Bounds{IDs: listIDs, LaneIDs: listIDs})
	from, err := list.Consume(t.what)
	if err != nil { // a new Memory is not closed
		panic(err)
	}
	return &stock{list: list, from: from, waiting: map[string][]*held{}, settle: func(uint64) error { return nil }}
}

// works reports whether the taker takes from a queue.
func (t *taker) works(queue string) bool {
	return t.what.Queues == nil || slices.Contains(t.what.Queues, queue)
}

// attach consumes from all known lanes on a new connection.
func (t *taker) attach(c connection) error {
	t.work.Lock()
	defer t.work.Unlock()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	t.mu.Lock()
	if t.closed || t.channel != nil {
		t.mu.Unlock()
		ch.Close()
		return nil
	}
	t.channel, t.conn, t.lanes, t.stock.settle = ch, c, map[lane]bool{}, ch.Ack
	t.mu.Unlock()
	for _, l := range t.broker.known() {
		if err := t.consume(l); err != nil {
			return err
		}
	}
	t.broker.events.ask()
	return nil
}

// subscribe consumes from a lane, if the taker is connected. If that ends the channel, the connection
// is replaced.
func (t *taker) subscribe(l lane) {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	c := t.conn
	t.mu.Unlock()
	if err := t.consume(l); err != nil {
		t.broker.getting.giveUp(c, err)
	}
}

// consume consumes from a lane that the taker can run. It fails if that ended the channel. work is
// held.
func (t *taker) consume(l lane) error {
	t.mu.Lock()
	ch, s := t.channel, t.stock
	if ch == nil || t.lanes[l] || !t.actions[l.Action] || !t.works(l.Queue) {
		t.mu.Unlock()
		return nil
	}
	t.lanes[l] = true
	t.mu.Unlock()
	var come <-chan delivery
	err := t.broker.declare(ch, l)
	if err == nil {
		come, err = ch.Consume(l.name(t.broker.config.Prefix), unsettled[l.Priority])
	}
	t.broker.unconsumed(l, err)
	if err != nil {
		t.mu.Lock()
		delete(t.lanes, l)
		t.mu.Unlock()
		return ch.Ended()
	}
	t.broker.part(func() { // until the channel ends
		for d := range come {
			t.arrive(s, l, d)
		}
		t.lost(s, ch, l)
	})
	return nil
}

// lost is called when a consumer has ended: the channel ended, or the server cancelled the consumer
// because the queue is gone. In the latter case the taker consumes from the lane again.
func (t *taker) lost(s *stock, ch channel, l lane) {
	t.mu.Lock()
	own, c := t.stock == s, t.conn
	if own {
		delete(t.lanes, l)
	}
	t.mu.Unlock()
	if !own {
		return
	}
	if err := ch.Ended(); err != nil {
		t.broker.getting.giveUp(c, err)
		return
	}
	if !t.broker.rest(cancelledPause) {
		return
	}
	t.mu.Lock()
	own = t.stock == s && !t.closed
	t.mu.Unlock()
	if own {
		t.broker.log.Info("a queue of the broker was deleted and is made anew", "lane", l.name(t.broker.config.Prefix))
		t.broker.markBehind(l.Queue)
		t.subscribe(l)
	}
}

// arrive adds the ids of a message to the list, and drops a foreign message.
func (t *taker) arrive(s *stock, from lane, d delivery) {
	ids, err := unpack(d.Body)
	if err != nil {
		t.broker.foreign.Add(1)
		t.broker.log.Warn("a message of the broker is dropped", "queue", from.Queue, "action", from.Action, "error", err)
		_ = s.settle(d.Tag) // no error matters: an ended channel settles nothing
		return
	}
	message := &held{d.Tag, len(ids)}
	hints := make([]broker.Hint, len(ids))
	t.mu.Lock()
	for i, id := range ids {
		hints[i] = broker.Hint{ID: id, Queue: from.Queue, Priority: from.Priority, Action: from.Action}
		s.waiting[id] = append(s.waiting[id], message)
	}
	if t.taking == 0 {
		t.rest.Reset(restAfter)
	}
	t.mu.Unlock()
	// The list is closed if the channel was given up. Then the server still has the message.
	_ = s.list.Publish(context.Background(), hints)
}

// Take implements broker.Taker.
func (t *taker) Take(ctx context.Context, want broker.Want) (broker.Taken, error) {
	for {
		s, err := t.begin()
		if err != nil {
			return broker.Taken{}, err
		}
		taken, err := s.from.Take(ctx, want)
		gone := t.finish(s, taken.IDs)
		if err != nil && gone && task.CodeOf(err) == task.Unavailable {
			continue // that list was dropped
		}
		return taken, err
	}
}

// begin notes a Take. If the taker had given its messages back, it consumes again.
func (t *taker) begin() (*stock, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, errClosed()
	}
	t.taking++
	t.rest.Stop()
	s, rests := t.stock, t.channel == nil
	t.mu.Unlock()
	if !rests {
		return s, nil
	}
	if c := t.broker.getting.now(); c != nil {
		if err := t.attach(c); err != nil {
			t.broker.getting.giveUp(c, err)
		}
	}
	return s, nil
}

// finish notes the end of a Take and the messages of its ids. gone reports whether the taker has
// dropped the stock meanwhile.
func (t *taker) finish(s *stock, ids []string) (gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		messages := s.waiting[id]
		s.taken = append(s.taken, messages[0])
		if messages = messages[1:]; len(messages) == 0 {
			delete(s.waiting, id)
		} else {
			s.waiting[id] = messages
		}
	}
	t.broker.taken.Add(int64(len(ids)))
	if t.taking--; t.taking == 0 && len(s.waiting) > 0 {
		t.rest.Reset(restAfter)
	}
	return t.closed || t.stock != s
}

// Ack implements broker.Taker.
func (t *taker) Ack() {
	t.mu.Lock()
	s := t.stock
	var done []uint64
	for _, message := range s.taken {
		if message.left--; message.left == 0 {
			done = append(done, message.tag)
		}
	}
	s.taken = nil
	settle := s.settle
	t.mu.Unlock()
	for _, tag := range done {
		_ = settle(tag) // if it fails, the server gives it to others, and their claims find nothing
	}
}

// giveBack gives back messages that nobody takes, so that idle nodes get them.
func (t *taker) giveBack() {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	if t.taking > 0 || len(t.stock.taken) > 0 || t.channel == nil {
		t.mu.Unlock()
		return
	}
	ch := t.leave()
	t.mu.Unlock()
	ch.Close()
}

// leave drops the stock, and returns the channel. mu is held.
func (t *taker) leave() channel {
	ch, old := t.channel, t.stock
	t.channel, t.stock = nil, t.newStock()
	_ = old.list.Close() // a Memory has no errors
	return ch
}

// detach is called when the connection has ended. The server delivers its messages again.
func (t *taker) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave()
}

// fallBehind makes the next Take return Behind.
func (t *taker) fallBehind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stock.list.MarkBehind()
}

func (t *taker) held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stock.list.Stats().Held
}

// Close implements broker.Taker.
func (t *taker) Close() error {
	t.broker.mu.Lock()
	delete(t.broker.takers, t)
	t.broker.mu.Unlock()
	t.end()
	return nil
}

// end ends the taker. The server gives unacknowledged messages to others.
func (t *taker) end() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed = true
	t.rest.Stop()
	ch := t.leave()
	t.mu.Unlock()
	if ch != nil {
		ch.Close()
	}
}
