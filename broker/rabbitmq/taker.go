package rabbitmq

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// unsettled says how many messages of each priority may be with a taker, as the weights of the
// priorities are: enough to keep a fast node busy while acknowledgements travel.
var unsettled = map[task.Priority]int{task.High: 64, task.Normal: 32, task.Low: 8}

// restAfter is how long a taker keeps ids that nobody takes before it gives them back.
const restAfter = 250 * time.Millisecond

// cancelledPause is how long after its end a consumer begins anew: the connection may be about to end,
// and who deletes a queue may be about to make another one.
const cancelledPause = 100 * time.Millisecond

// listIDs is more than the messages of all lanes that may be with a taker hold, so that its
// list drops nothing.
const listIDs = 1 << 24

// taker is a broker.Taker.
type taker struct {
	broker  *Broker
	what    broker.Interest
	actions map[string]bool

	// work is held while something is asked of the server: the taker begins, or stops, to consume.
	work sync.Mutex

	mu      sync.Mutex // guards all below
	closed  bool
	stock   *stock        // what has arrived
	channel channel       // nil: the server is away, or the taker rests
	conn    connection    // that the channel is, or was, on
	lanes   map[lane]bool // that it consumes from
	taking  int           // Takes under way
	rest    *time.Timer   // runs while there are ids and no Take
}

// stock is a taker's list, and the messages in it. It is left behind with its channel.
type stock struct {
	list    *broker.Memory
	from    broker.Taker
	settle  func(tag uint64) error
	waiting map[string][]*held // messages by the ids in the list
	taken   []*held            // of the ids that were taken and not acknowledged, one each
}

// held is a message whose ids are not all acknowledged.
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

// newStock makes an empty list, whose first answer is that the taker is behind.
func (t *taker) newStock() *stock {
	list := broker.NewMemory(broker.Bounds{IDs: listIDs, LaneIDs: listIDs})
	from, err := list.Consume(t.what)
	if err != nil { // a new Memory is not closed
		panic(err)
	}
	return &stock{list: list, from: from, waiting: map[string][]*held{}, settle: func(uint64) error { return nil }}
}

// works tells whether the taker takes from a queue.
func (t *taker) works(queue string) bool {
	return t.what.Queues == nil || slices.Contains(t.what.Queues, queue)
}

// attach begins to consume on a new connection, from the lanes that are known.
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
	t.broker.notices.ask()
	return nil
}

// subscribe begins to consume from a lane, if the taker is connected. A connection on which that ends
// the channel is opened anew.
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

// consume begins to consume from a lane that the taker can run. It fails when that has ended the
// channel. It wants work held.
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
	t.broker.parts.Go(func() { // until the channel ends
		for d := range come {
			t.arrive(s, l, d)
		}
		t.lost(s, ch, l)
	})
	return nil
}

// lost notes that no more comes from a lane: the channel has ended, or the server has cancelled the
// consumer, since the queue has gone. Then it is consumed from again.
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
	time.AfterFunc(cancelledPause, func() {
		t.mu.Lock()
		own := t.stock == s && !t.closed
		t.mu.Unlock()
		if own && !t.broker.closed.Load() {
			t.broker.log.Info("a queue of the broker was deleted and is made anew", "lane", l.name(t.broker.config.Prefix))
			t.broker.tellBehind(l.Queue)
			t.subscribe(l)
		}
	})
}

// arrive adds the ids of a message to the list. What is none of ours is dropped.
func (t *taker) arrive(s *stock, from lane, d delivery) {
	ids, err := unpack(d.Body)
	if err != nil {
		t.broker.foreign.Add(1)
		t.broker.log.Warn("a message of the broker is dropped", "queue", from.Queue, "action", from.Action, "error", err)
		_ = s.settle(d.Tag) // a channel that has ended settles nothing
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
	// The list is closed when the channel is given up; the server has the message still.
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
			continue // that list was left behind
		}
		return taken, err
	}
}

// begin notes a Take, and has a taker that rests consume again.
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

// finish notes the end of a Take, and which messages its ids are of. gone tells that the list
// that it was made from is not the taker's any more.
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
		_ = settle(tag) // the server gives it to others then, and their claims find nothing
	}
}

// giveBack lets go of ids that nobody takes: whoever is idle gets them.
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

// leave leaves the list behind, and gives the channel. It wants mu held.
func (t *taker) leave() channel {
	ch, old := t.channel, t.stock
	t.channel, t.stock = nil, t.newStock()
	_ = old.list.Close() // a Memory has no errors
	return ch
}

// detach is called when the connection has gone: what was in the list comes again.
func (t *taker) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave()
}

// fallBehind has the next Take say that the taker is behind.
func (t *taker) fallBehind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stock.list.TellBehind()
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

// end ends the taking. The server gives what was not acknowledged to others.
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
