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

// The kinds of messages to all nodes.
const (
	kindEvents = "events" // events of tasks and queues
	kindLanes  = "lanes"  // an announcement of lanes
	kindAsk    = "ask"    // a request to announce all lanes
)

const (
	// maxMessageEvents and maxMessageLanes limit the events and the lanes of one message.
	maxMessageEvents = 256
	maxMessageLanes  = 256
	// maxEventMessageBytes is the largest message that is parsed.
	maxEventMessageBytes = 4 << 20
	// maxOutboxEvents limits the events that wait to be sent.
	maxOutboxEvents = 4 * broker.DefaultEvents
	// maxQueueMessages limits the messages that wait on the server for one node.
	maxQueueMessages = 100_000
	// announceRetry is the pause before a failed announcement is repeated.
	announceRetry = time.Second
	// checkInterval is how often a node checks that the exchange and its queue exist.
	checkInterval = 2 * time.Second
	// listenTimeout limits how long Listen waits for the first connection.
	listenTimeout = time.Second
)

// events sends messages to all nodes and receives theirs. They are events and announcements of lanes.
type events struct {
	broker   *Broker
	ready    chan struct{} // closed after the first connection
	wasReady sync.Once
	wake     chan struct{} // wakes run

	mu        sync.Mutex // guards the fields below
	closed    bool
	inbox     *broker.Memory // the source of the listeners; replaced after each interruption
	connected bool
	outbox    []broker.Event // to be sent
	lanes     []announcement // to be sent
	asks      bool           // a request for lanes is to be sent
	sent      int64
	missed    int64 // events lost by the outbox and by former inboxes
}

func newEvents(b *Broker) *events {
	n := &events{broker: b, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
	n.inbox = n.newMemory()
	return n
}

func (n *events) newMemory() *broker.Memory {
	return broker.NewMemory(broker.Bounds{Events: n.broker.config.Bounds.Events})
}

// attach consumes from a new connection.
func (n *events) attach(c connection) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	queue, err := ch.DeclareEvents(n.exchange(), maxQueueMessages)
	if err != nil {
		return err
	}
	deliveries, err := ch.Consume(queue, 0)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	n.broker.goroutines.Go(func() { // until the channel ends
		defer close(over)
		for d := range deliveries {
			n.receive(d)
		}
	})
	n.broker.goroutines.Go(func() { n.check(c, ch, queue, over) })
	n.mu.Lock()
	n.connected = true
	n.mu.Unlock()
	n.wasReady.Do(func() { close(n.ready) })
	return nil
}

// check checks at an interval that events can still arrive, and replaces the connection if not. Somebody
// may delete the exchange or the queue on the server, and RabbitMQ does not report a deleted exchange.
func (n *events) check(c connection, ch channel, queue string, over <-chan struct{}) {
	ticks := time.NewTicker(checkInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			if err := ch.CheckEvents(n.exchange(), queue); err != nil {
				n.broker.consumeLink.giveUp(c, err)
				<-over
				return
			}
		case <-over:
			why := ch.Ended()
			if why == nil {
				why = errors.New("the queue of events was deleted on the server")
			}
			n.broker.consumeLink.giveUp(c, why)
			return
		}
	}
}

func (n *events) exchange() string { return n.broker.config.Prefix + ".events" }

// detach is called when the connection has ended. It makes listeners report missed events.
func (n *events) detach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.connected && !n.closed {
		n.connected = false
		n.replace()
	}
}

// replace replaces the inbox, so that listeners report missed events. mu is held.
func (n *events) replace() {
	old := n.inbox
	n.inbox = n.newMemory()
	n.missed += old.Stats().Missed
	_ = old.Close() // a Memory has no errors
}

// receive handles a message to all nodes. It may come from any client of the server.
func (n *events) receive(d delivery) {
	var err error
	switch {
	case len(d.Body) > maxEventMessageBytes:
		err = errForeign
	case d.Kind == kindEvents:
		var events []broker.Event
		if events, err = parseEvents(d.Body); err == nil {
			n.memory().Broadcast(events)
		}
	case d.Kind == kindLanes:
		err = n.receiveLanes(d.Body)
	case d.Kind == kindAsk:
		var lanes []announcement
		for _, l := range n.broker.known() {
			lanes = append(lanes, announcement{lane: l})
		}
		n.announce(lanes)
	default:
		err = errForeign
	}
	if err != nil {
		n.broker.foreign.Add(1)
		n.broker.log.Warn("a message of the broker is dropped", "kind", d.Kind, "error", err)
	}
}

func (n *events) memory() *broker.Memory {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inbox
}

// receiveLanes adds announced lanes. It returns when the takers consume from them, after some
// milliseconds; later messages wait.
func (n *events) receiveLanes(body []byte) error {
	var lanes []announcement
	if err := json.Unmarshal(body, &lanes); err != nil {
		return err
	}
	for _, l := range lanes {
		if l.valid() {
			n.broker.addLane(l.lane, l.Again)
		}
	}
	return nil
}

// announce announces lanes to all nodes, including this one.
func (n *events) announce(lanes []announcement) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range lanes {
		if !slices.Contains(n.lanes, l) && len(n.lanes) < maxLanes {
			n.lanes = append(n.lanes, l)
		}
	}
	n.signal()
}

// ask asks all nodes to announce the lanes that they know.
func (n *events) ask() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asks = true
	n.signal()
}

// broadcast sends events to all nodes.
func (n *events) broadcast(events []broker.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.sent += int64(len(events))
	room := min(len(events), maxOutboxEvents-len(n.outbox))
	n.outbox = append(n.outbox, events[:room]...)
	n.missed += int64(len(events) - room)
	n.signal()
}

func (n *events) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run sends messages until ctx ends. Events that cannot be sent are lost. Announcements of lanes and
// requests for them are tried again.
func (n *events) run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-n.wake:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		if n.sendLanes() != nil {
			retry.Reset(announceRetry)
		}
		for m, count, more := n.next(); more; m, count, more = n.next() {
			if err := n.broker.publish.broadcast(m); err != nil {
				n.lose(count)
			}
		}
	}
}

// sendLanes sends a request for lanes and one announcement, if they are due. They go before events,
// since ids wait for them.
func (n *events) sendLanes() error {
	n.mu.Lock()
	asks, lanes := n.asks, n.lanes[:min(len(n.lanes), maxMessageLanes)]
	n.mu.Unlock()
	if asks {
		if err := n.broker.publish.broadcast(message{Exchange: n.exchange(), Kind: kindAsk}); err != nil {
			return err
		}
	}
	if len(lanes) > 0 {
		body, err := json.Marshal(lanes)
		if err != nil { // strings and numbers always marshal
			panic(err)
		}
		if err := n.broker.publish.broadcast(message{Exchange: n.exchange(), Kind: kindLanes, Body: body}); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asks = n.asks && !asks
	if n.lanes = n.lanes[len(lanes):]; len(n.lanes) > 0 {
		n.signal()
	}
	return nil
}

// lose adds to the number of lost events.
func (n *events) lose(events int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed += events
}

// next removes events for one message from the outbox.
func (n *events) next() (m message, events int64, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m.Exchange = n.exchange()
	if len(n.outbox) == 0 {
		return m, 0, false
	}
	at := min(len(n.outbox), maxMessageEvents)
	body := marshalEvents(n.outbox[:at])
	if n.outbox = n.outbox[at:]; len(n.outbox) == 0 {
		n.outbox = nil
	}
	m.Kind, m.Body = kindEvents, body
	return m, int64(at), true
}

// counts returns how many events were sent, and how many were lost by the outbox or by listeners.
func (n *events) counts() (sent, missed int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent, n.missed + n.inbox.Stats().Missed
}

// close ends all listeners.
func (n *events) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	_ = n.inbox.Close()
}

// listen returns a listener. It waits up to listenTimeout for the first connection.
func (n *events) listen() (broker.Listener, error) {
	select {
	case <-n.ready:
	case <-time.After(listenTimeout):
	}
	l := &listener{events: n}
	_, err := l.renew()
	return l, err
}

// listener is a broker.Listener.
type listener struct {
	events *events

	mu     sync.Mutex // guards the fields below
	closed bool
	from   broker.Listener
	of     *broker.Memory
}

// renew listens to the current inbox, and reports whether it replaced another one.
func (l *listener) renew() (interrupted bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	memory := l.events.memory()
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
func (l *listener) Next(ctx context.Context) (broker.Received, error) {
	l.mu.Lock()
	from := l.from
	l.mu.Unlock()
	received, err := from.Next(ctx)
	if err == nil || task.CodeOf(err) != task.Unavailable || errors.Is(err, ctx.Err()) {
		return received, err
	}
	if interrupted, again := l.renew(); again == nil && interrupted {
		return broker.Received{Missed: 1}, nil
	}
	return broker.Received{}, err
}

// Close implements broker.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.from.Close()
}
