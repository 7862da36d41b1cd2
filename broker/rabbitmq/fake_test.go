package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	lib "github.com/rabbitmq/amqp091-go"
)

// fakeServer is a RabbitMQ in memory. It has what the driver uses.
type fakeServer struct {
	mu     sync.Mutex // guards the fields below, and all connections, channels and queues
	away   bool       // it refuses connections
	full   bool       // it accepts no messages
	made   int        // queues of events so far
	open   map[*fakeConnection]struct{}
	queues map[string]*fakeQueue
	mute   map[string]bool         // queues that confirm nothing, as can happen after a crash
	bound  map[string][]*fakeQueue // queues by exchange
}

// fakeQueue is a queue. A queue of events is deleted with its connection.
type fakeQueue struct {
	name      string
	bytes     int // its limit; 0: none
	held      int // bytes of messages
	messages  []delivery
	consumers []*fakeConsumer
	turn      int
}

// fakeConsumer delivers messages of a queue.
type fakeConsumer struct {
	channel *fakeChannel
	queue   *fakeQueue
	credit  int // how many more messages may be unacknowledged; negative: no limit
	buffer  []delivery
	more    chan struct{} // wakes pump
	to      chan delivery
}

func newFakeServer() *fakeServer {
	return &fakeServer{open: map[*fakeConnection]struct{}{}, queues: map[string]*fakeQueue{}, mute: map[string]bool{}, bound: map[string][]*fakeQueue{}}
}

// dial opens a connection.
func (s *fakeServer) dial(ctx context.Context) (connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away || ctx.Err() != nil {
		return nil, errors.New("connection refused")
	}
	c := &fakeConnection{server: s, gone: make(chan error, 1), blocks: make(chan string, 1)}
	if s.full {
		c.blocks <- "low on memory"
	}
	s.open[c] = struct{}{}
	return c, nil
}

// cut ends all connections. With wipe it also deletes all queues.
func (s *fakeServer) cut(wipe bool) {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.open))
	if wipe {
		s.queues = map[string]*fakeQueue{}
	}
	s.mu.Unlock()
	for _, c := range list {
		c.end(errors.New("connection reset"))
	}
}

// alarm makes the server accept no messages, or accept them again.
func (s *fakeServer) alarm(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
	for c := range s.open {
		why := ""
		if full {
			why = "low on memory"
		}
		select {
		case <-c.blocks: // keep only the latest
		default:
		}
		c.blocks <- why
	}
}

// put adds a message to a queue. mu is held.
func (q *fakeQueue) put(d delivery) bool {
	if q.bytes > 0 && q.held+len(d.Body) > q.bytes {
		return false
	}
	q.messages, q.held = append(q.messages, d), q.held+len(d.Body)
	q.deal()
	return true
}

// deal passes messages to consumers in turn. mu is held.
func (q *fakeQueue) deal() {
	for len(q.messages) > 0 {
		var next *fakeConsumer
		for i := range q.consumers {
			c := q.consumers[(q.turn+i)%len(q.consumers)]
			if c.credit != 0 {
				next, q.turn = c, q.turn+i+1
				break
			}
		}
		if next == nil {
			return
		}
		d := q.messages[0]
		q.messages, q.held = q.messages[1:], q.held-len(d.Body)
		next.take(d)
	}
}

// take passes a message to the consumer. mu is held.
func (c *fakeConsumer) take(d delivery) {
	ch := c.channel
	ch.tags++
	d.Tag = ch.tags
	if c.credit > 0 {
		c.credit--
		ch.unsettled[d.Tag] = owed{c, d}
	}
	c.buffer = append(c.buffer, d)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// owed is an unacknowledged message.
type owed struct {
	by *fakeConsumer
	delivery
}

type fakeConnection struct {
	server   *fakeServer
	gone     chan error
	blocks   chan string
	over     bool
	channels []*fakeChannel
}

func (c *fakeConnection) Closed() <-chan error   { return c.gone }
func (c *fakeConnection) Blocked() <-chan string { return c.blocks }
func (c *fakeConnection) Close()                 { c.end(errors.New("closed")) }

func (c *fakeConnection) end(why error) {
	s := c.server
	s.mu.Lock()
	if c.over {
		s.mu.Unlock()
		return
	}
	c.over = true
	delete(s.open, c)
	list := c.channels
	s.mu.Unlock()
	for _, ch := range list {
		ch.Close()
	}
	c.gone <- why
}

func (c *fakeConnection) Channel() (channel, error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.over {
		return nil, errors.New("the connection is closed")
	}
	ch := &fakeChannel{server: c.server, ended: make(chan struct{}), unsettled: map[uint64]owed{}}
	c.channels = append(c.channels, ch)
	return ch, nil
}

// fakeChannel is a channel. The server's mu guards it.
type fakeChannel struct {
	server    *fakeServer
	ended     chan struct{}
	over      bool
	tags      uint64
	unsettled map[uint64]owed
	consumers []*fakeConsumer
	own       []*fakeQueue // queues that live as long as the channel
	why       error        // why the server ended the channel
	back      []uint64     // numbers of returned messages
	pumps     sync.WaitGroup
}

// enter locks the server's mu for a call, and fails if the channel is closed. The caller unlocks it.
func (ch *fakeChannel) enter() error {
	ch.server.mu.Lock()
	if ch.over {
		return errors.New("the channel is closed")
	}
	return nil
}

func (ch *fakeChannel) Close() {
	s := ch.server
	s.mu.Lock()
	if ch.over {
		s.mu.Unlock()
		return
	}
	ch.over = true
	close(ch.ended)
	for _, c := range ch.consumers {
		c.queue.consumers = slices.DeleteFunc(c.queue.consumers, func(other *fakeConsumer) bool { return other == c })
	}
	for _, tag := range slices.Backward(slices.Sorted(maps.Keys(ch.unsettled))) {
		d := ch.unsettled[tag]
		q := d.by.queue
		q.messages, q.held = slices.Insert(q.messages, 0, d.delivery), q.held+len(d.Body)
	}
	for _, c := range ch.consumers {
		c.queue.deal()
	}
	for exchange, list := range s.bound {
		s.bound[exchange] = slices.DeleteFunc(list, func(q *fakeQueue) bool { return slices.Contains(ch.own, q) })
	}
	s.mu.Unlock()
	ch.pumps.Wait()
}

func (ch *fakeChannel) Publish(m message) (confirmation, error) {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return nil, err
	}
	d := delivery{Kind: m.Kind, Body: m.Body}
	if m.Exchange != "" {
		for _, q := range ch.server.bound[m.Exchange] {
			q.put(d)
		}
		return nil, nil
	}
	taken := true
	if q := ch.server.queues[m.Key]; q != nil {
		taken = q.put(d)
	} else {
		ch.back = append(ch.back, m.Number)
	}
	if ch.server.mute[m.Key] {
		return func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }, nil
	}
	return func(context.Context) (bool, error) { return taken, nil }, nil
}

func (ch *fakeChannel) Returned() []uint64 {
	ch.server.mu.Lock()
	defer ch.server.mu.Unlock()
	back := ch.back
	ch.back = nil
	return back
}

func (ch *fakeChannel) Consume(queue string, prefetch int) (<-chan delivery, error) {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return nil, err
	}
	q := ch.server.queues[queue]
	if q == nil {
		return nil, fmt.Errorf("there is no queue %s", queue)
	}
	c := &fakeConsumer{channel: ch, queue: q, credit: prefetch, more: make(chan struct{}, 1), to: make(chan delivery)}
	if prefetch == 0 {
		c.credit = -1
	}
	q.consumers, ch.consumers = append(q.consumers, c), append(ch.consumers, c)
	ch.pumps.Go(c.pump)
	q.deal()
	return c.to, nil
}

// pump delivers messages until the channel ends.
func (c *fakeConsumer) pump() {
	defer close(c.to)
	for {
		s := c.channel.server
		s.mu.Lock()
		buffer := c.buffer
		c.buffer = nil
		s.mu.Unlock()
		for _, d := range buffer {
			select {
			case c.to <- d:
			case <-c.channel.ended:
				return
			}
		}
		select {
		case <-c.more:
		case <-c.channel.ended:
			return
		}
	}
}

func (ch *fakeChannel) Ack(tag uint64) error {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return err
	}
	d, ok := ch.unsettled[tag]
	if !ok {
		return fmt.Errorf("the tag %d is not known", tag)
	}
	delete(ch.unsettled, tag)
	d.by.credit++
	d.by.queue.deal()
	return nil
}

func (ch *fakeChannel) DeclareLane(queue string, bytes int) error {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return err
	}
	if ch.server.queues[queue] == nil {
		ch.server.queues[queue] = &fakeQueue{name: queue, bytes: bytes}
	}
	return nil
}

func (ch *fakeChannel) InspectLane(queue string) (messages, consumers int, err error) {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return 0, 0, err
	}
	q := ch.server.queues[queue]
	if q == nil {
		return 0, 0, &lib.Error{Code: lib.NotFound, Server: true}
	}
	return len(q.messages), len(q.consumers), nil
}

func (ch *fakeChannel) DeleteLane(queue string) error {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return err
	}
	delete(ch.server.queues, queue)
	delete(ch.server.mute, queue)
	return nil
}

func (ch *fakeChannel) Ended() error {
	ch.server.mu.Lock()
	defer ch.server.mu.Unlock()
	return ch.why
}

func (ch *fakeChannel) DeclareExchange(string) error {
	defer ch.server.mu.Unlock()
	return ch.enter()
}

func (ch *fakeChannel) CheckEvents(string, string) error {
	defer ch.server.mu.Unlock()
	return ch.enter()
}

func (ch *fakeChannel) DeclareEvents(exchange string, _ int) (string, error) {
	defer ch.server.mu.Unlock()
	if err := ch.enter(); err != nil {
		return "", err
	}
	ch.server.made++
	q := &fakeQueue{name: fmt.Sprint("own-", ch.server.made)}
	ch.server.queues[q.name] = q
	ch.server.bound[exchange] = append(ch.server.bound[exchange], q)
	ch.own = append(ch.own, q)
	return q.name, nil
}
