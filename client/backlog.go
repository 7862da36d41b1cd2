package client

import "time"

// backlog is a list of calls, first come, first served. A call leaves it in constant
// time, since its caller may give up.
type backlog struct {
	first, last *call
	length      int32
}

func (b *backlog) push(k *call) {
	k.waiting, k.previous, k.next = true, b.last, nil
	if b.last == nil {
		b.first = k
	} else {
		b.last.next = k
	}
	b.last = k
	b.length++
}

func (b *backlog) pushFront(k *call) {
	k.waiting, k.previous, k.next = true, nil, b.first
	if b.first == nil {
		b.last = k
	} else {
		b.first.previous = k
	}
	b.first = k
	b.length++
}

func (b *backlog) remove(k *call) {
	if k.previous == nil {
		b.first = k.next
	} else {
		k.previous.next = k.next
	}
	if k.next == nil {
		b.last = k.previous
	} else {
		k.next.previous = k.previous
	}
	k.waiting, k.previous, k.next = false, nil, nil
	b.length--
}

// take removes the calls that match and returns them.
func (b *backlog) take(match func(*call) bool) []*call {
	var taken []*call
	for k := b.first; k != nil; {
		next := k.next
		if match(k) {
			b.remove(k)
			taken = append(taken, k)
		}
		k = next
	}
	return taken
}

// submit hands a call to the least busy connection, or keeps it until one has room.
// The call's owner is told when it has come back.
func (c *Client) submit(k *call) {
	if c.waiting.Load() == 0 {
		if n, busy := c.leastBusy(); n != nil && n.take(k) {
			if busy > 0 {
				c.grow()
			}
			return
		}
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		k.settle(failed, ErrClosed)
		return
	}
	k.since = time.Now()
	c.backlog.push(k)
	// A connection may have got room since it was looked at. From here on it
	// sees that somebody waits.
	c.waiting.Store(c.backlog.length)
	c.feed()
	c.connect()
	c.mu.Unlock()
}

// leastBusy finds the connection with the fewest unanswered requests, nil if none
// has room.
func (c *Client) leastBusy() (best *conn, least int32) {
	least = int32(c.cfg.Window)
	for _, n := range *c.ready.Load() {
		if busy := n.unanswered.Load(); busy < least {
			best, least = n, busy
		}
	}
	return best, least
}

// feed gives waiting calls to connections with room. mu is held.
func (c *Client) feed() {
	for c.backlog.first != nil {
		k := c.backlog.first
		// The call leaves the list before it can be answered and used again.
		c.backlog.remove(k)
		if !c.place(k) {
			c.backlog.pushFront(k)
			break
		}
	}
	c.waiting.Store(c.backlog.length)
}

// place hands a call to the least busy connection, or to any other that takes it.
func (c *Client) place(k *call) bool {
	if n, _ := c.leastBusy(); n == nil || n.take(k) {
		return n != nil
	}
	for _, n := range *c.ready.Load() {
		if n.take(k) {
			return true
		}
	}
	return false
}

// abandon takes back a call whose caller gives up, and tells whether it had been
// handed to a connection: then it may run all the same, and its reply is dropped. It
// returns ours = false when the call has come back already, or is about to.
func (c *Client) abandon(k *call) (handedOn, ours bool) {
	c.mu.Lock()
	if k.waiting {
		c.backlog.remove(k)
		c.waiting.Store(c.backlog.length)
		c.mu.Unlock()
		return false, true
	}
	n := k.conn
	c.mu.Unlock()
	return true, n != nil && n.forget(k)
}

// dropGone takes out of the backlog what its stream no longer wants.
func (c *Client) dropGone() []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped := c.backlog.take(func(k *call) bool { return k.gone != nil && k.gone.Load() })
	c.waiting.Store(c.backlog.length)
	return dropped
}
