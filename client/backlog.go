package client

// backlog is a first-in, first-out list of calls. Removing a call takes constant time,
// since its caller may give up at any time.
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
