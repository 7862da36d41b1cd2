package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// rabbitNodes is how many consumers take messages, each over its own connection, like three nodes.
	rabbitNodes = 3
	// rabbitAhead is the prefetch of each consumer. rabbitAcks is how many messages one acknowledgement covers,
	// unless no more are there.
	rabbitAhead = 1000
	rabbitAcks  = 100
	workedQueue = "bench"
	idleQueue   = "bench.backlog"
)

// rabbit is RabbitMQ alone: a task is a persistent message in a quorum queue that is confirmed, consumed and
// acknowledged. It has run when the broker has its acknowledgement. A system that keeps tasks in a broker cannot be
// faster.
type rabbit struct {
	url       string
	times     *clock
	consumers []*rabbitConsumer
	acked     atomic.Int64
	sent      atomic.Int64
	failed    atomic.Pointer[error]
}

// rabbitConsumer is one connection that takes messages.
type rabbitConsumer struct {
	conn *amqp.Connection
	ch   *amqp.Channel
	over sync.WaitGroup
}

func openRabbitMQ(_ context.Context, url string, times *clock) (peer, error) {
	p := &rabbit{url: url, times: times}
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{workedQueue, idleQueue} {
		args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// wake starts the consumers. The broker would close the connections of a frozen process.
func (p *rabbit) wake() error {
	for range rabbitNodes {
		c, err := p.consume()
		if err != nil {
			return err
		}
		p.consumers = append(p.consumers, c)
	}
	return nil
}

func (p *rabbit) consume() (*rabbitConsumer, error) {
	conn, err := amqp.Dial(p.url)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := ch.Qos(rabbitAhead, 0, false); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	deliveries, err := ch.Consume(workedQueue, "", false, false, false, false, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &rabbitConsumer{conn: conn, ch: ch}
	c.over.Go(func() {
		if err := p.work(deliveries); err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
	})
	return c, nil
}

// work consumes messages until the channel is closed.
func (p *rabbit) work(deliveries <-chan amqp.Delivery) error {
	held := int64(0)
	for d := range deliveries {
		number, err := strconv.ParseInt(string(d.Body[4:]), 10, 64)
		if err != nil {
			return err
		}
		p.times.done(number)
		if held++; held < rabbitAcks && len(deliveries) > 0 {
			continue
		}
		if err := d.Ack(true); err != nil {
			return err
		}
		p.acked.Add(held)
		held = 0
	}
	return nil
}

// finished returns how many messages were acknowledged. AMQP does not confirm acknowledgements. But a later request
// on the same channel is answered after they are processed.
func (p *rabbit) finished() (int64, error) {
	if err := p.failed.Load(); err != nil {
		return 0, *err
	}
	if acked, sent := p.acked.Load(), p.sent.Load(); acked < sent {
		return acked, nil
	}
	for _, c := range p.consumers {
		q, err := c.ch.QueueDeclarePassive(workedQueue, true, false, false, false, nil)
		if err != nil {
			return 0, err
		}
		if q.Messages > 0 {
			return 0, fmt.Errorf("%d messages are left in the queue, or came twice", q.Messages)
		}
	}
	return p.acked.Load(), nil
}

func (p *rabbit) forget() error {
	_, err := p.consumers[0].ch.QueuePurge(idleQueue, false)
	p.close()
	return err
}

func (p *rabbit) close() {
	for _, c := range p.consumers {
		c.conn.Close()
		c.over.Wait()
	}
	p.consumers = nil
}

// rabbitProducer is one connection that publishes and waits for the confirms.
type rabbitProducer struct {
	peer   *rabbit
	conn   *amqp.Connection
	ch     *amqp.Channel
	closed chan *amqp.Error
	queue  string
	unsure []*amqp.DeferredConfirmation
}

func (p *rabbit) producer(worked bool) (producer, error) {
	conn, err := amqp.Dial(p.url)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	to := &rabbitProducer{peer: p, conn: conn, ch: ch, queue: workedQueue}
	to.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
	if !worked {
		to.queue = idleQueue
	}
	return to, nil
}

// enqueue publishes all messages, then waits for all confirms.
func (p *rabbitProducer) enqueue(numbers []int64) error {
	if p.queue == workedQueue {
		p.peer.sent.Add(int64(len(numbers)))
	}
	p.unsure = p.unsure[:0]
	for _, n := range numbers {
		c, err := p.ch.PublishWithDeferredConfirm("", p.queue, false, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: fmt.Appendf(nil, "hola%012d", n),
		})
		if err != nil {
			return err
		}
		p.unsure = append(p.unsure, c)
	}
	for _, c := range p.unsure {
		select {
		case <-c.Done():
			if !c.Acked() {
				return errors.New("the broker refused a message")
			}
		case err := <-p.closed:
			return fmt.Errorf("the channel was closed before a confirm: %w", err)
		}
	}
	return nil
}

func (p *rabbitProducer) close() { p.conn.Close() }
