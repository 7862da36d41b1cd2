package rabbitmq

import (
	"context"
	"errors"
	"strconv"
	"sync"

	lib "github.com/rabbitmq/amqp091-go"
)

// amqpChannel is a channel of a real server.
type amqpChannel struct {
	ch       *lib.Channel
	confirms bool // whether confirms are on; only Publish uses it
	returns  chan lib.Return
	conn     *lib.Connection

	ends  chan *lib.Error // receives why the channel ended
	endMu sync.Mutex      // guards end
	end   *lib.Error

	// calls is held during a synchronous call, since the library passes the next answer to any
	// waiting caller. It is also held from setting a prefetch until the consumer that uses it exists.
	calls sync.Mutex
}

func newAMQPChannel(conn *lib.Connection, ch *lib.Channel, returns int) *amqpChannel {
	return &amqpChannel{
		ch: ch, conn: conn, returns: ch.NotifyReturn(make(chan lib.Return, returns)), ends: ch.NotifyClose(make(chan *lib.Error, 1)),
	}
}

// Ended implements channel.
func (c *amqpChannel) Ended() error {
	c.endMu.Lock()
	defer c.endMu.Unlock()
	if c.end == nil {
		select {
		case c.end = <-c.ends:
		default:
		}
	}
	if c.end == nil { // a nil *lib.Error would be a non-nil error
		return nil
	}
	return c.end
}

// reason returns the server's error for a failed call, if there is one. The library may report only that
// the channel is closed.
func (c *amqpChannel) reason(err error) error {
	var reply *lib.Error
	if err == nil || errors.As(err, &reply) && reply.Server {
		return err
	}
	if end := c.Ended(); end != nil {
		return end
	}
	return err
}

// Close implements channel.
func (c *amqpChannel) Close() {
	c.calls.Lock()
	defer c.calls.Unlock()
	_ = c.ch.Close() // an error means that it has ended already
}

// Publish implements publishing.
func (c *amqpChannel) Publish(m message) (confirmation, error) {
	publishing := lib.Publishing{Type: m.Kind, Body: m.Body}
	if !m.Durable {
		return nil, c.reason(c.ch.PublishWithContext(context.Background(), m.Exchange, m.Key, false, false, publishing))
	}
	if err := c.enableConfirms(); err != nil {
		return nil, c.reason(err)
	}
	publishing.DeliveryMode, publishing.MessageId = lib.Persistent, strconv.FormatUint(m.Number, 10)
	confirm, err := c.ch.PublishWithDeferredConfirmWithContext(context.Background(), m.Exchange, m.Key, true, false, publishing)
	if err != nil {
		return nil, c.reason(err)
	}
	return func(ctx context.Context) (bool, error) {
		taken, err := confirm.WaitContext(ctx)
		return taken, c.reason(err)
	}, nil
}

// enableConfirms turns confirms on.
func (c *amqpChannel) enableConfirms() error {
	if c.confirms {
		return nil
	}
	c.calls.Lock()
	defer c.calls.Unlock()
	err := c.ch.Confirm(false)
	c.confirms = err == nil
	return err
}

// Returned implements publishing. The library delivers a return before the confirm of the
// same message, so after a confirm its return has arrived.
func (c *amqpChannel) Returned() (numbers []uint64) {
	for {
		select {
		case r, open := <-c.returns:
			if !open {
				return numbers
			}
			if n, err := strconv.ParseUint(r.MessageId, 10, 64); err == nil {
				numbers = append(numbers, n)
			}
		default:
			return numbers
		}
	}
}

// Consume implements consuming.
func (c *amqpChannel) Consume(queue string, prefetch int) (<-chan delivery, error) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if prefetch > 0 {
		if err := c.ch.Qos(prefetch, 0, false); err != nil {
			return nil, c.reason(err)
		}
	}
	deliveries, err := c.ch.Consume(queue, "", prefetch == 0, false, false, false, nil)
	if err != nil {
		return nil, c.reason(err)
	}
	to := make(chan delivery)
	go func() { // ends with the channel
		defer close(to)
		for d := range deliveries {
			to <- delivery{d.DeliveryTag, d.Type, d.Body}
		}
	}()
	return to, nil
}

// Ack implements consuming.
func (c *amqpChannel) Ack(tag uint64) error { return c.ch.Ack(tag, false) }

// DeclareLane implements declaring.
func (c *amqpChannel) DeclareLane(queue string, bytes int) error {
	return c.onNewChannel(func(ch *lib.Channel) error {
		_, err := ch.QueueDeclare(queue, true, false, false, false, lib.Table{
			"x-queue-type": "quorum", "x-delivery-limit": deliveryLimit, "x-consumer-timeout": consumerTimeout,
			"x-max-length-bytes": bytes, "x-overflow": "reject-publish",
		})
		return err
	})
}

// InspectLane implements declaring.
func (c *amqpChannel) InspectLane(queue string) (messages, consumers int, err error) {
	err = c.onNewChannel(func(ch *lib.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		messages, consumers = q.Messages, q.Consumers
		return err
	})
	return messages, consumers, err
}

// DeleteLane implements declaring.
func (c *amqpChannel) DeleteLane(queue string) error {
	return c.onNewChannel(func(ch *lib.Channel) error {
		_, err := ch.QueueDelete(queue, false, false, false)
		return err
	})
}

// onNewChannel makes a call on a channel of its own, since a refusal ends that channel.
func (c *amqpChannel) onNewChannel(do func(ch *lib.Channel) error) error {
	ch, err := c.conn.Channel()
	if err != nil {
		return err
	}
	other := newAMQPChannel(c.conn, ch, 0)
	defer other.Close()
	return other.reason(do(ch))
}

// DeclareExchange implements declaring.
func (c *amqpChannel) DeclareExchange(exchange string) error {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.reason(c.ch.ExchangeDeclare(exchange, lib.ExchangeFanout, true, false, false, false, nil))
}

// DeclareEvents implements declaring.
func (c *amqpChannel) DeclareEvents(exchange string, messages int) (string, error) {
	if err := c.DeclareExchange(exchange); err != nil {
		return "", err
	}
	c.calls.Lock()
	defer c.calls.Unlock()
	q, err := c.ch.QueueDeclare("", false, true, true, false, lib.Table{"x-queue-type": "classic", "x-max-length": messages})
	if err != nil {
		return "", c.reason(err)
	}
	return q.Name, c.reason(c.ch.QueueBind(q.Name, "", exchange, false, nil))
}

// CheckEvents implements declaring.
func (c *amqpChannel) CheckEvents(exchange, queue string) error {
	c.calls.Lock()
	defer c.calls.Unlock()
	if err := c.ch.ExchangeDeclarePassive(exchange, lib.ExchangeFanout, true, false, false, false, nil); err != nil {
		return c.reason(err)
	}
	return c.reason(c.ch.QueueBind(queue, "", exchange, false, nil))
}
