package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// The kinds of messages that all nodes hear.
const (
	kindEvents = "events" // what has happened to tasks and queues
	kindLanes  = "lanes"  // which lanes there are
	kindAsk    = "ask"    // a node wants to know them
)

const (
	// eventsMost bounds the events of one message, and lanesAtOnce the lanes.
	eventsMost  = 256
	lanesAtOnce = 256
	// noticeMost bounds a message from outside, in bytes.
	noticeMost = 4 << 20
	// outboxMost bounds the events that wait to be sent.
	outboxMost = 4 * broker.DefaultEvents
	// queueMost bounds the messages that wait on the server for one node.
	queueMost = 100_000
	// tellAgain is how soon lanes are announced again that could not be.
	tellAgain = time.Second
	// checkEvery is how often a node asks whether the exchange and its queue are there.
	checkEvery = 2 * time.Second
	// listenPatience is how long a listener waits for the server at first.
	listenPatience = time.Second
)

// notices is what nodes tell all of each other: events, and lanes.
type notices struct {
	broker   *Broker
	ready    chan struct{} // closed when there was a connection
	wasReady sync.Once
	wake     chan struct{} // for run

	mu        sync.Mutex // guards all below
	closed    bool
	heard     *broker.Memory // what listeners listen to; another one after each interruption
	connected bool
	events    []broker.Event // to be sent
	lanes     []lane         // to be announced
	asks      bool           // lanes are to be asked for
	sent      int64
	missed    int64 // of outbox and of former memories
}

func newNotices(b *Broker) *notices {
	n := &notices{broker: b, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
	n.heard = n.newMemory()
	return n
}

func (n *notices) newMemory() *broker.Memory {
	return broker.NewMemory(broker.Bounds{Events: n.broker.config.Bounds.Events})
}

// attach begins to hear on a new connection.
func (n *notices) attach(c connection) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	queue, err := ch.DeclareEvents(n.exchange(), queueMost)
	if err != nil {
		return err
	}
	come, err := ch.Consume(queue, 0)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	n.broker.parts.Go(func() { // until the channel ends
		defer close(over)
		for d := range come {
			n.hear(d)
		}
	})
	n.broker.parts.Go(func() { n.check(c, ch, queue, over) })
	n.mu.Lock()
	n.connected = true
	n.mu.Unlock()
	n.wasReady.Do(func() { close(n.ready) })
	return nil
}

// check looks now and then whether events still come, and has the connection opened anew if they do
// not: the exchange or the queue may be deleted on the server, which tells nobody of the former.
func (n *notices) check(c connection, ch channel, queue string, over <-chan struct{}) {
	ticks := time.NewTicker(checkEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			if err := ch.CheckEvents(n.exchange(), queue); err != nil {
				n.broker.getting.giveUp(c, err)
				<-over
				return
			}
		case <-over:
			why := ch.Ended()
			if why == nil {
				why = errors.New("the queue of events was deleted on the server")
			}
			n.broker.getting.giveUp(c, why)
			return
		}
	}
}

func (n *notices) exchange() string { return n.broker.config.Prefix + ".events" }

// detach is called when the connection has gone: listeners have missed something.
func (n *notices) detach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.connected && !n.closed {
		n.connected = false
		n.replace()
	}
}

// replace has listeners begin anew. It wants mu held.
func (n *notices) replace() {
	old := n.heard
	n.heard = n.newMemory()
	n.missed += old.Stats().Missed
	_ = old.Close() // a Memory has no errors
}

// hear takes what a node has told, which may come from anybody.
func (n *notices) hear(d delivery) {
	var err error
	switch {
	case len(d.Body) > noticeMost:
		err = errForeign
	case d.Kind == kindEvents:
		var events []broker.Event
		if events, err = parseEvents(d.Body); err == nil {
			n.memory().Broadcast(events)
		}
	case d.Kind == kindLanes:
		err = n.hearLanes(d.Body)
	case d.Kind == kindAsk:
		n.announce(n.broker.known())
	default:
		err = errForeign
	}
	if err != nil {
		n.broker.foreign.Add(1)
		n.broker.log.Warn("a message of the broker is dropped", "kind", d.Kind, "error", err)
	}
}

func (n *notices) memory() *broker.Memory {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.heard
}

// hearLanes learns lanes. What is heard next waits until they are consumed from, which takes
// the server some milliseconds.
func (n *notices) hearLanes(body []byte) error {
	var lanes []lane
	if err := json.Unmarshal(body, &lanes); err != nil {
		return err
	}
	for _, l := range lanes {
		if l.valid() {
			n.broker.learn(l)
		}
	}
	return nil
}

// announce has all nodes, this one included, hear of lanes.
func (n *notices) announce(lanes []lane) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range lanes {
		if !slices.Contains(n.lanes, l) && len(n.lanes) < lanesMost {
			n.lanes = append(n.lanes, l)
		}
	}
	n.poke()
}

// ask has all nodes announce the lanes that they know.
func (n *notices) ask() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asks = true
	n.poke()
}

// broadcast has all nodes hear of events.
func (n *notices) broadcast(events []broker.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.sent += int64(len(events))
	room := min(len(events), outboxMost-len(n.events))
	n.events = append(n.events, events[:room]...)
	n.missed += int64(len(events) - room)
	n.poke()
}

func (n *notices) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run sends what is to be told, until ctx ends. Events that cannot be sent are lost, lanes and
// questions wait.
func (n *notices) run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-n.wake:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		if n.tellLanes() != nil {
			retry.Reset(tellAgain)
		}
		for m, count, more := n.next(); more; m, count, more = n.next() {
			if err := n.broker.publish.tell(m); err != nil {
				n.lose(count)
			}
		}
	}
}

// tellLanes asks for lanes and announces some, since ids wait for that.
func (n *notices) tellLanes() error {
	n.mu.Lock()
	asks, lanes := n.asks, n.lanes[:min(len(n.lanes), lanesAtOnce)]
	n.mu.Unlock()
	if asks {
		if err := n.broker.publish.tell(message{Exchange: n.exchange(), Kind: kindAsk}); err != nil {
			return err
		}
	}
	if len(lanes) > 0 {
		body, err := json.Marshal(lanes)
		if err != nil { // they have strings and numbers only
			panic(err)
		}
		if err := n.broker.publish.tell(message{Exchange: n.exchange(), Kind: kindLanes, Body: body}); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asks = n.asks && !asks
	if n.lanes = n.lanes[len(lanes):]; len(n.lanes) > 0 {
		n.poke()
	}
	return nil
}

// lose counts events that could not be sent.
func (n *notices) lose(events int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed += events
}

// next takes events from the outbox, as many as a message may have.
func (n *notices) next() (m message, events int64, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m.Exchange = n.exchange()
	if len(n.events) == 0 {
		return m, 0, false
	}
	at := min(len(n.events), eventsMost)
	body := marshalEvents(n.events[:at])
	if n.events = n.events[at:]; len(n.events) == 0 {
		n.events = nil
	}
	m.Kind, m.Body = kindEvents, body
	return m, int64(at), true
}

// counts gives how many events were sent, and how many were lost on the way or by listeners.
func (n *notices) counts() (sent, missed int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent, n.missed + n.heard.Stats().Missed
}

// close ends all listeners.
func (n *notices) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	_ = n.heard.Close()
}

// listen begins to collect events. It waits a moment for the server at first.
func (n *notices) listen() (broker.Listener, error) {
	select {
	case <-n.ready:
	case <-time.After(listenPatience):
	}
	l := &listener{notices: n}
	_, err := l.renew()
	return l, err
}

// listener is a broker.Listener.
type listener struct {
	notices *notices

	mu     sync.Mutex // guards all below
	closed bool
	from   broker.Listener
	of     *broker.Memory
}

// renew listens to the memory of now, and tells whether it is another one than before.
func (l *listener) renew() (interrupted bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	memory := l.notices.memory()
	if l.closed || memory == l.of {
		return false, errClosed()
	}
	from, err := memory.Listen()
	if err != nil {
		return false, err
	}
	interrupted = l.of != nil
	l.from, l.of = from, memory
	return interrupted, nil
}

// Next implements broker.Listener.
func (l *listener) Next(ctx context.Context) (broker.Heard, error) {
	l.mu.Lock()
	from := l.from
	l.mu.Unlock()
	heard, err := from.Next(ctx)
	if err == nil || task.CodeOf(err) != task.Unavailable || errors.Is(err, ctx.Err()) {
		return heard, err
	}
	if interrupted, again := l.renew(); again == nil && interrupted {
		return broker.Heard{Missed: 1}, nil
	}
	return broker.Heard{}, err
}

// Close implements broker.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.from.Close()
}
