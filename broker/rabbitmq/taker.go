package rabbitmq

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// prefetch is the number of unacknowledged messages of a lane, by priority. The numbers follow the
// weights of the priorities, and are large enough to keep a fast node busy.
var prefetch = map[task.Priority]int{task.High: 64, task.Normal: 32, task.Low: 8}

// returnAfter is how long a taker keeps ids that are not taken, before it returns them to the server.
const returnAfter = 250 * time.Millisecond

// reconsumeAfter is the pause after the server cancelled a consumer: the connection may be about to end,
// or the queue may be about to be declared again.
const reconsumeAfter = 100 * time.Millisecond

// quietChecks is how many checks in a row must find messages in a queue, and none of them here, before the
// taker takes its consumer for lost. One check may see a message that is on its way.
const quietChecks = 2

// maxConsumerPause is the longest pause, in checks, before a taker that has not got its consumer back tries again.
const maxConsumerPause = 16

// listIDs is more than the number of ids in the prefetched messages of all lanes, so that the list drops
// none.
const listIDs = 1 << 24

// taker is a broker.Taker.
type taker struct {
	broker  *Broker
	what    broker.Interest
	actions map[string]bool

	// work is held while the taker starts or stops consuming, which calls the server.
	work sync.Mutex

	mu         sync.Mutex // guards the fields below
	closed     bool
	prefetched *prefetched   // ids that have arrived
	channel    channel       // nil: the server is away, or the taker has returned its messages
	conn       connection    // of the channel
	lanes      map[lane]bool // lanes that it consumes from; work is held while one is added
	checks     map[lane]int  // failed checks of a consumer in a row
	taking     int           // number of current Takes
	idle       *time.Timer   // runs while ids wait and there is no Take
}

// prefetched is a taker's list of ids with the messages that brought them. It is dropped together with its
// channel.
type prefetched struct {
	list    *broker.Memory
	from    broker.Taker
	settle  func(tag uint64) error
	waiting map[string][]*held // messages by id in the list
	taken   []*held            // the message of each id that was taken and not acknowledged
	lanes   map[lane]*arrivals // of each lane from which a message arrived
}

// arrivals counts the messages of a lane.
type arrivals struct {
	unacked int // messages that are not acknowledged
	quiet   int // checks in a row that found none of the messages in the queue here
}

// held is a message with unacknowledged ids.
type held struct {
	tag  uint64
	left int // unacknowledged ids
	lane *arrivals
}

func newTaker(b *Broker, what broker.Interest) *taker {
	t := &taker{broker: b, what: broker.Interest{Queues: slices.Clone(what.Queues), Actions: slices.Clone(what.Actions)}}
	t.actions, t.checks = map[string]bool{}, map[lane]int{}
	for _, action := range t.what.Actions {
		t.actions[action] = true
	}
	t.idle = time.AfterFunc(time.Hour, t.returnAll)
	t.idle.Stop()
	t.prefetched = t.newPrefetched()
	return t
}

// newPrefetched returns an empty list. Its first Take returns Behind.
func (t *taker) newPrefetched() *prefetched {
	list := broker.NewMemory(broker.Bounds{IDs: listIDs, LaneIDs: listIDs})
	from, err := list.Consume(t.what)
	if err != nil { // a new Memory is not closed
		panic(err)
	}
	return &prefetched{list: list, from: from, waiting: map[string][]*held{}, lanes: map[lane]*arrivals{}, settle: func(uint64) error { return nil }}
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
	t.channel, t.conn, t.lanes, t.prefetched.settle = ch, c, map[lane]bool{}, ch.Ack
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
		t.broker.consumeLink.giveUp(c, err)
	}
}

// consume consumes from a lane that the taker can run. It fails if that ended the channel. work is
// held.
func (t *taker) consume(l lane) error {
	t.mu.Lock()
	ch, s := t.channel, t.prefetched
	if ch == nil || t.lanes[l] || !t.actions[l.Action] || !t.works(l.Queue) {
		t.mu.Unlock()
		return nil
	}
	t.lanes[l] = true
	t.mu.Unlock()
	var deliveries <-chan delivery
	err := t.broker.declare(ch, l)
	if err == nil {
		deliveries, err = ch.Consume(l.name(t.broker.config.Prefix), prefetch[l.Priority])
	}
	t.broker.noteConsume(l, err)
	if err != nil {
		t.mu.Lock()
		delete(t.lanes, l)
		t.mu.Unlock()
		return ch.Ended()
	}
	t.broker.start(func() { // until the channel ends
		for d := range deliveries {
			t.receive(s, l, d)
		}
		t.lost(s, ch, l)
	})
	return nil
}

// lost is called when a consumer has ended: either the channel ended, or the server cancelled the
// consumer because the queue is gone. If the queue is gone, the taker consumes from the lane again.
func (t *taker) lost(s *prefetched, ch channel, l lane) {
	t.mu.Lock()
	own, c := t.prefetched == s, t.conn
	if own {
		delete(t.lanes, l)
	}
	t.mu.Unlock()
	if !own {
		return
	}
	if err := ch.Ended(); err != nil {
		t.broker.consumeLink.giveUp(c, err)
		return
	}
	if !t.broker.sleep(reconsumeAfter) {
		return
	}
	t.mu.Lock()
	own = t.prefetched == s && !t.closed
	t.mu.Unlock()
	if own {
		t.broker.log.Info("a queue of the broker was deleted and is created again", "lane", l.name(t.broker.config.Prefix))
		t.broker.markBehind(l.Queue)
		t.subscribe(l)
	}
}

// arrivals returns the counts of a lane. The taker's mu is held.
func (s *prefetched) arrivals(l lane) *arrivals {
	if s.lanes[l] == nil {
		s.lanes[l] = &arrivals{}
	}
	return s.lanes[l]
}

// resubscribe consumes from all lanes again, if the taker consumes from this one, whose queue was deleted.
func (t *taker) resubscribe(l lane) {
	t.mu.Lock()
	s, consumes := t.prefetched, t.lanes[l]
	t.mu.Unlock()
	if !consumes {
		return
	}
	t.broker.log.Info("a queue of the broker was deleted and is created again", "lane", l.name(t.broker.config.Prefix))
	t.restart(s)
}

// checkConsumers asks the server about the taker's lanes, and consumes from all of them again if one has
// lost its consumer without a message to this node. With many lanes, each call checks some of them.
func (t *taker) checkConsumers() {
	t.mu.Lock()
	s, lanes := t.prefetched, slices.Collect(maps.Keys(t.lanes)) // in random order
	t.mu.Unlock()
	for _, l := range lanes[:min(len(lanes), maxConsumerChecks)] {
		why := t.lostConsumer(s, l)
		if !t.noteCheck(l, why == "") {
			continue
		}
		t.broker.log.Warn("a queue of the broker lost its consumer and is consumed again", "lane", l.name(t.broker.config.Prefix), "what", why)
		t.restart(s)
		return
	}
}

// noteCheck notes the result of a check, and reports whether the taker should consume again. If that does not
// help, it does so after growing pauses: RabbitMQ reports no consumers while a queue has no leader.
func (t *taker) noteCheck(l lane, good bool) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if good {
		delete(t.checks, l)
		return false
	}
	t.checks[l]++
	n := t.checks[l]
	return n&(n-1) == 0 || n%maxConsumerPause == 0
}

// lostConsumer returns why the taker no longer consumes from a lane, or "".
func (t *taker) lostConsumer(s *prefetched, l lane) string {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	ch, consumes := t.channel, t.prefetched == s && t.lanes[l]
	t.mu.Unlock()
	if ch == nil || !consumes {
		return ""
	}
	messages, consumers, err := ch.InspectLane(l.name(t.broker.config.Prefix))
	switch {
	case err != nil && isMissing(err):
		return "the queue is gone"
	case err != nil: // the channel or the connection ends, which others notice
		return ""
	case consumers == 0:
		return "the queue has no consumer"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := s.arrivals(l)
	if at.quiet++; messages == 0 || at.unacked > 0 {
		at.quiet = 0
	}
	if at.quiet < quietChecks {
		return ""
	}
	return "messages wait in the queue and none arrives"
}

// restart consumes from all lanes on a new channel, unless s has been replaced meanwhile. The next Take
// returns Behind.
func (t *taker) restart(s *prefetched) {
	t.work.Lock()
	t.mu.Lock()
	if t.closed || t.prefetched != s || t.channel == nil {
		t.mu.Unlock()
		t.work.Unlock()
		return
	}
	c, ch := t.conn, t.dropPrefetched()
	t.mu.Unlock()
	ch.Close()
	t.work.Unlock()
	if err := t.attach(c); err != nil {
		t.broker.consumeLink.giveUp(c, err)
	}
}

// receive adds the ids of a message to the list. It drops a foreign message.
func (t *taker) receive(s *prefetched, from lane, d delivery) {
	ids, err := unpack(d.Body)
	if err != nil {
		t.broker.foreign.Add(1)
		t.broker.log.Warn("a message of the broker is dropped", "queue", from.Queue, "action", from.Action, "error", err)
		_ = s.settle(d.Tag) // an error means that the channel has ended, and then the server has the message again
		return
	}
	hints := make([]broker.Hint, len(ids))
	t.mu.Lock()
	at := s.arrivals(from)
	at.unacked, at.quiet = at.unacked+1, 0
	message := &held{d.Tag, len(ids), at}
	for i, id := range ids {
		hints[i] = broker.Hint{ID: id, Queue: from.Queue, Priority: from.Priority, Action: from.Action}
		s.waiting[id] = append(s.waiting[id], message)
	}
	if t.taking == 0 {
		t.idle.Reset(returnAfter)
	}
	t.mu.Unlock()
	// Publish fails if the list was dropped with its channel. Then the server has the message again.
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
			continue // the list was dropped
		}
		return taken, err
	}
}

// begin notes the start of a Take. If the taker has returned its messages, it consumes again.
func (t *taker) begin() (*prefetched, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, errClosed()
	}
	t.taking++
	t.idle.Stop()
	s, detached := t.prefetched, t.channel == nil
	t.mu.Unlock()
	if !detached {
		return s, nil
	}
	if c := t.broker.consumeLink.now(); c != nil {
		if err := t.attach(c); err != nil {
			t.broker.consumeLink.giveUp(c, err)
		}
	}
	return s, nil
}

// finish notes the end of a Take and the messages of its ids. gone reports whether the taker dropped the
// list meanwhile.
func (t *taker) finish(s *prefetched, ids []string) (gone bool) {
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
		t.idle.Reset(returnAfter)
	}
	return t.closed || t.prefetched != s
}

// Ack implements broker.Taker.
func (t *taker) Ack() {
	t.mu.Lock()
	s := t.prefetched
	var done []uint64
	for _, message := range s.taken {
		if message.left--; message.left == 0 {
			done = append(done, message.tag)
			message.lane.unacked--
		}
	}
	s.taken = nil
	settle := s.settle
	t.mu.Unlock()
	for _, tag := range done {
		_ = settle(tag) // if it fails, the server delivers the message to others, whose claims find nothing
	}
}

// returnAll returns messages whose ids are not taken to the server, so that idle nodes get them.
func (t *taker) returnAll() {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	if t.taking > 0 || len(t.prefetched.taken) > 0 || t.channel == nil {
		t.mu.Unlock()
		return
	}
	ch := t.dropPrefetched()
	t.mu.Unlock()
	ch.Close()
}

// dropPrefetched drops the list and returns its channel. mu is held.
func (t *taker) dropPrefetched() channel {
	ch, old := t.channel, t.prefetched
	t.channel, t.prefetched = nil, t.newPrefetched()
	_ = old.list.Close() // a Memory has no errors
	return ch
}

// detach is called when the connection has ended. The server delivers its messages again.
func (t *taker) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropPrefetched()
}

// markBehind makes the next Take return Behind.
func (t *taker) markBehind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prefetched.list.MarkBehind()
}

func (t *taker) held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.prefetched.list.Stats().Held
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
	t.idle.Stop()
	ch := t.dropPrefetched()
	t.mu.Unlock()
	if ch != nil {
		ch.Close()
	}
}
